import { DTypeError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape, sameShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import { machineEpsilon } from "../../norm/family.js";
import { layerView, statisticCount } from "../../norm/views.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkInputs, defineNorm, type NormInputs, type NormStatistics } from "./fused_norm.js";

export interface AddNormOptions {
  /** Lengths of the last axes, which a statistic spans. */
  readonly normalizedShape: Shape;
  /** null: the machine epsilon of x's type. */
  readonly eps: number | null;
  /** True: layer normalization. False: root mean square, no bias. */
  readonly centred: boolean;
}

interface LaunchOptions extends AddNormOptions {
  readonly eps: number;
  readonly affine: { readonly weight: Tensor | null; readonly bias: Tensor | null };
}

/** sum = x + residual. Beside it, from the same launch, y and statistics of the norm of that sum, without history. */
const add = defineOp<
  { x: Tensor; residual: Tensor },
  LaunchOptions,
  Record<never, never>,
  { y: Tensor; statistics: NormStatistics }
>({
  name: "add_norm",
  forward({ x, residual }, { normalizedShape, eps, centred, affine }) {
    const { view, ...on } = layerView(x.shape, normalizedShape);
    const [out, y] = [Tensor.empty(x.shape, x.dtype), Tensor.empty(x.shape, x.dtype)];
    const fresh = () => Tensor.empty([statisticCount({ ...on, view })], "float64");
    const statistics = { mean: centred ? fresh() : null, variance: fresh() };
    const stats = { mean: statistics.mean?.storage ?? null, variance: statistics.variance.storage };
    const slots = [x.storage, residual.storage, out.storage] as const;
    const [weight, bias] = [affine.weight?.storage ?? null, affine.bias?.storage ?? null];
    if (x.size > 0) kernels.addRowNorm(...slots, weight, bias, y.storage, stats, view, eps);
    return { out, extra: { y, statistics } };
  },
  backward: (dy) => ({ x: () => dy, residual: () => dy }),
  twiceDifferentiable: true,
});

const layer = defineNorm("layer_norm");
const rms = defineNorm("rms_norm");

/**
 * sum = x + residual and y = the layer or root-mean-square normalization of sum, in one pass over memory: x and residual
 * are read once, sum and y written once. For the tape they are two ops, so gradients are right whichever of them is used:
 * dsum = what reaches sum directly + the norm's gradient, and dx = dresidual = dsum.
 *
 * Shapes: x, residual, sum and y [..., ...normalizedShape]; weight and bias normalizedShape, each optional.
 * Saves:  sum, weight and the statistics, as the norm alone does; x and residual are not needed.
 * Throws: ShapeError if x does not end in normalizedShape, or residual has another shape than x; DTypeError unless x,
 *         residual, weight and bias are of one floating type.
 */
export function addNorm(
  { x, residual, weight, bias }: NormInputs & { residual: Tensor },
  { normalizedShape, eps, centred }: AddNormOptions,
): { y: Tensor; sum: Tensor } {
  const name = centred ? "add_layer_norm" : "add_rms_norm";
  const on = layerView(x.shape, normalizedShape);
  checkInputs(name, { x, weight, bias }, normalizedShape);
  if (residual.dtype !== x.dtype) {
    const got = `x of ${x.dtype} and a residual of ${residual.dtype}`;
    throw new DTypeError({
      rule: `${name} takes x and residual of one type`,
      got,
      fix: `Use x.to("${residual.dtype}")`,
    });
  }
  if (!sameShape(residual.shape, x.shape)) {
    throw new ShapeError({
      rule: `${name} takes a residual of x's shape ${formatShape(x.shape)}`,
      got: formatShape(residual.shape),
      fix: "Use residual.expand(x.shape) where it is meant to repeat",
    });
  }
  return scope(() => {
    const used = eps ?? machineEpsilon(x.dtype);
    const options = { normalizedShape, eps: used, centred, affine: { weight, bias } };
    const { out: sum, extra: computed } = add.run({ x, residual }, options);
    const norm = { on, eps: used, affineShape: normalizedShape, centred, computed };
    const y = (centred ? layer : rms)({ x: sum, weight, bias }, norm);
    return { y, sum };
  });
}
