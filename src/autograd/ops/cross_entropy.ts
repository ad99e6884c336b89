import { arithmeticType, isFloating, type NumberArray } from "../../base/dtype.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { formatShape, sameShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { checkNumbers } from "../check_numbers.js";
import { arange } from "../create.js";
import { isRecording } from "../graph.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { softmax } from "./softmax.js";

export interface RowLossOptions {
  /** Share of the target's mass spread evenly over all classes. */
  readonly smoothing: number;
  /** Rows with this target count for nothing. */
  readonly ignoreIndex: number;
}

/**
 * loss[r] = -sum over c of q[c] log softmax(logits[r])[c], q = 1 - smoothing at target[r] plus smoothing / C everywhere;
 * 0 where target[r] is ignoreIndex. d logits[r] = dy[r] (softmax(logits[r]) - q).
 *
 * Shapes: logits [R, C], target [R] (int32), loss [R]. The loss of float16 logits is float32.
 * Saves:  target and log-softmax; logits too (shared, not copied), from which createGraph differentiates again.
 * Source: smoothing Szegedy et al. 2015, arXiv:1512.00567.
 */
export const crossEntropyRows: Op<{ logits: Tensor; target: Tensor }, RowLossOptions, undefined> = defineOp<
  { logits: Tensor; target: Tensor },
  RowLossOptions,
  { logits: Tensor; target: Tensor; logProbs: Tensor }
>({
  name: "cross_entropy",
  forward({ logits, target }, { smoothing, ignoreIndex }) {
    const [rows, classes] = [logits.shape[0]!, logits.shape[1]!];
    const dtype = arithmeticType(logits.dtype);
    const logProbs = Tensor.empty(logits.shape, dtype);
    const out = Tensor.empty([rows], dtype);
    kernels.crossEntropy(logits.storage, target.storage, logProbs.storage, out.storage, {
      ...{ rows, classes, smoothing, ignoreIndex },
    });
    return { out, saved: { logits, target, logProbs } };
  },
  backward(dy, { logits, target, logProbs }, options) {
    return {
      logits: () => {
        const [rows, classes] = [logits.shape[0]!, logits.shape[1]!];
        if (isRecording()) {
          const counted = target.notEqual(options.ignoreIndex).reshape([rows, 1]);
          const gap = softmax(logits).sub(smoothedOneHot(target, logits, options.smoothing));
          return gap.mul(dy.reshape([rows, 1])).mul(counted);
        }
        const dx = Tensor.empty(logits.shape, logits.dtype);
        kernels.crossEntropyGrad(logProbs.storage, target.storage, dy.storage, dx.storage, {
          ...{ rows, classes, ...options },
        });
        return dx;
      },
    };
  },
  twiceDifferentiable: true,
});

/** q of each row, as constants; a target outside the classes (one that is ignored) gets the even share alone. */
function smoothedOneHot(target: Tensor, logits: Tensor, smoothing: number): Tensor {
  const [rows, classes] = [logits.shape[0]!, logits.shape[1]!];
  const numbers = arange(classes, { dtype: "int32" });
  const hit = target.reshape([rows, 1]).equal(numbers).cast(logits.dtype);
  return hit.mul(1 - smoothing).add(smoothing / classes);
}

/** Logits [R, C] and targets in one row a decision, from logits [C] or [N, C, ...D] and targets without C. */
export function rowsOfClasses(logits: Tensor): { rows: Tensor; targetShape: number[] } {
  if (logits.rank === 0 || !isFloating(logits.dtype)) {
    throw new (logits.rank === 0 ? ShapeError : DTypeError)({
      rule: "crossEntropy takes float logits [N, C], [C] or [N, C, ...D]",
      got: `${formatShape(logits.shape)} ${logits.dtype}`,
    });
  }
  const axis = logits.rank === 1 ? 0 : 1;
  const classes = logits.shape[axis]!;
  const targetShape = logits.shape.filter((_, i) => i !== axis);
  if (logits.rank <= 2) return { rows: logits.reshape([-1, classes]), targetShape };
  const order = logits.shape.map((_, i) => i).filter((i) => i !== 1);
  return { rows: logits.permute([...order, 1]).reshape([-1, classes]), targetShape };
}

/**
 * Throws unless `target` holds class numbers (int32) for logits of `classes` classes, one for each place of `shape`.
 * The text names the first number that is out of range, and where it stands.
 */
export function checkClasses(target: Tensor, shape: readonly number[], classes: number, ignoreIndex: number): void {
  if (target.dtype !== "int32") {
    throw new DTypeError({
      rule: "crossEntropy takes class numbers of type int32, or probabilities in the shape of the logits",
      got: `${target.dtype} targets of shape ${formatShape(target.shape)}`,
      fix: 'Cast class numbers with cast("int32")',
    });
  }
  if (!sameShape(target.shape, shape)) {
    throw new ShapeError({
      rule: `crossEntropy with ${classes} classes needs one target for each decision, shape ${formatShape(shape)}`,
      got: formatShape(target.shape),
      fix: "Targets have the logits' shape without the class axis (axis 1)",
    });
  }
  checkNumbers(target, (numbers) => checkRange(numbers, classes, ignoreIndex));
}

function checkRange(numbers: NumberArray, classes: number, ignoreIndex: number): void {
  for (let r = 0; r < numbers.length; r++) {
    const t = numbers[r]!;
    if (t === ignoreIndex || (t >= 0 && t < classes)) continue;
    throw new ShapeError({
      rule: `crossEntropy with ${classes} classes takes targets from 0 to ${classes - 1}, or ignoreIndex ${ignoreIndex}`,
      got: `${t} in row ${r}`,
      fix: "Count classes from 0, and give the last layer one output a class",
    });
  }
}
