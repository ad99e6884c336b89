import { isFloating } from "../../base/dtype.js";
import { normalizeAxis, numberOfElements } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { gradientLike, isRecording } from "../graph.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

/**
 * Along the last axis: softmax y = exp(x - max) / sum(exp(x - max)), or its logarithm x - max - log(sum(exp(x - max))).
 * dx = y (dy - sum(dy y)) for softmax, dx = dy - exp(y) sum(dy) for its logarithm.
 *
 * Shapes: x, y [..., D]. Saves y, which backward needs and the next op mostly keeps anyway.
 */
const softmaxOp: Op<{ x: Tensor }, { log: boolean }, undefined> = defineOp<
  { x: Tensor },
  { log: boolean },
  { y: Tensor }
>({
  name: "softmax",
  forward({ x }, { log }) {
    const out = Tensor.empty(x.shape, x.dtype);
    const size = x.shape[x.rank - 1]!;
    kernels.softmax(x.storage, out.storage, rowsOf(x), size, log);
    return { out, saved: { y: out } };
  },
  backward(dy, { y }, { log }) {
    return {
      x: () => {
        if (isRecording()) {
          const last = { keepDim: true };
          return log ? dy.sub(y.exp().mul(dy.sum(-1, last))) : y.mul(dy.sub(dy.mul(y).sum(-1, last)));
        }
        const dx = gradientLike(dy);
        kernels.softmaxGrad(y.storage, dy.storage, dx.storage, rowsOf(y), y.shape[y.rank - 1]!, log);
        return dx;
      },
    };
  },
  twiceDifferentiable: true,
});

const rowsOf = (x: Tensor): number => numberOfElements(x.shape.slice(0, -1));

function along(x: Tensor, axis: number, log: boolean): Tensor {
  const input = isFloating(x.dtype) ? x : x.cast("float32");
  const a = normalizeAxis(axis, x.rank, "softmax axis");
  // The kernel reads rows: another axis is moved to the back and returned.
  if (a === x.rank - 1) return softmaxOp({ x: input }, { log });
  return softmaxOp({ x: input.transpose(a, -1) }, { log }).transpose(a, -1);
}

/** Softmax along one axis. Throws ShapeError for an axis that x has not. */
export const softmax = (x: Tensor, axis = -1): Tensor => along(x, axis, false);

/** Logarithm of softmax along one axis, without the underflow of taking it afterwards. */
export const logSoftmax = (x: Tensor, axis = -1): Tensor => along(x, axis, true);
