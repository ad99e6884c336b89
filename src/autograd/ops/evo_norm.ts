import { normalizeAxis } from "../../base/shape.js";
import { groupColumns } from "../../norm/views.js";
import { zeros } from "../create.js";
import type { Tensor } from "../tensor.js";
import { channelAffine } from "./channel_affine.js";
import { columnMoments, standardize } from "./column_parts.js";
import { checkFloating } from "./floating.js";
import { instanceMoments, mergeMoments } from "./instance_moments.js";

export interface EvoNormInputs {
  readonly x: Tensor;
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  /** Slope within the nonlinearity, [C]. */
  readonly v: Tensor;
}

/** [N, C], [1, C] or [C] as it broadcasts against x with channels on `axis`. */
function spread(t: Tensor, x: Tensor, axis: number): Tensor {
  const a = normalizeAxis(axis, x.rank);
  const samples = t.rank === 2 ? t.shape[0]! : 1;
  return t.reshape(x.shape.map((d, i) => (i === 0 ? samples : i === a ? d : 1)));
}

/**
 * y = weight x / max(sqrt(batch variance + eps), v x + sqrt(instance variance + eps)) + bias. Both variances come from one
 * pass over x, the batch's merged from the samples'. Differentiable once by all inputs, through both.
 *
 * Shapes: x and y [N, ..., C, ...]; weight, bias and v [C]; the batch's variance [C], float64.
 * Source: Liu et al. 2020, arXiv:2004.02967.
 */
export function evoNormB0(
  { x, weight, bias, v }: EvoNormInputs,
  { axis, eps, given }: { readonly axis: number; readonly eps: number; readonly given?: Tensor },
): { out: Tensor; variance: Tensor } {
  checkFloating("EvoNormB0", x, { weight, bias, v });
  const moments = instanceMoments(x, axis);
  const variance = given ? given.detach().cast("float64").reshape([1, given.size]) : mergeMoments(moments, 0).variance;
  const deviation = (of: Tensor) => spread(of.add(eps).sqrt().cast(x.dtype), x, axis);
  const below = x
    .mul(spread(v, x, axis))
    .add(deviation(moments.variance))
    .maximum(deviation(variance));
  const out = channelAffine({ x: x.div(below), weight, bias }, axis);
  return { out, variance: variance.reshape([-1]) };
}

/**
 * y = weight x sigmoid(v x) / sqrt(group variance + eps) + bias, the last step in one pass of the column kernel.
 * Differentiable once by all inputs, through the variance too.
 *
 * Shapes: x and y [N, ..., C, ...]; weight, bias and v [C].
 * Throws: ShapeError if groups does not divide C.
 * Source: Liu et al. 2020, arXiv:2004.02967.
 */
export function evoNormS0(
  { x, weight, bias, v }: EvoNormInputs,
  { axis, eps, groups }: { readonly axis: number; readonly eps: number; readonly groups: number },
): Tensor {
  checkFloating("EvoNormS0", x, { weight, bias, v });
  const { view } = groupColumns(x.shape, groups, axis);
  const variance = columnMoments({ x }, { view }).narrow(0, 1, 1).reshape([-1]);
  const mean = zeros([variance.size], { dtype: "float64" });
  const activated = x.mul(x.mul(spread(v, x, axis)).sigmoid());
  return standardize({ x: activated, mean, variance, weight, bias }, { view, eps });
}
