import { normalizeAxis } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { groupColumns } from "../../norm/views.js";
import { zeros } from "../create.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { channelAffine } from "./channel_affine.js";
import { columnMoments, standardize } from "./column_parts.js";
import { where } from "./elementwise.js";
import { checkFloating } from "./floating.js";
import { instanceMoments, mergeMoments, type SampleMoments } from "./instance_moments.js";
import { sampleAffine } from "./sample_affine.js";

export interface EvoNormInputs {
  readonly x: Tensor;
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  /** Slope within the nonlinearity, [C]. */
  readonly v: Tensor;
}

/** [N, C] or [C] as it broadcasts against x with channels on `axis`, in x's type. */
function spread(t: Tensor, x: Tensor, axis: number): Tensor {
  const a = normalizeAxis(axis, x.rank);
  const samples = t.rank === 2 ? t.shape[0]! : 1;
  return t.cast(x.dtype).reshape(x.shape.map((d, i) => (i === 0 ? samples : i === a ? d : 1)));
}

export interface EvoNormB0Options {
  readonly axis: number;
  readonly eps: number;
  /** The variance to use for the batch's; a constant in backward. */
  readonly given?: Tensor;
  /** What the batch's moments [C] are part of, and through which a gradient goes back to them. Default: nothing larger. */
  readonly widen?: ((own: SampleMoments) => SampleMoments) | null;
}

type RatioInputs = {
  x: Tensor;
  v: Tensor;
  /** Standard deviation of each sample and channel [N, C], and of each channel [C], both float64. */
  own: Tensor;
  batch: Tensor;
};

/**
 * u = x / d, d = max(batch, q), q = v x + own. With e = -dy u / d, the gradient to d: dv = sum of e x and down = sum of e
 * where q is larger, dbatch = sum of e elsewhere. dx = dy / d elsewhere, and dy own / d^2 where q is larger: written as
 * dy / d + v e it would cancel, since v u is near 1 where x is large.
 *
 * Shapes: x and u [N, ..., C, ...]; v [C].
 * Saves:  all inputs and d.
 */
const evoRatio = defineOp<RatioInputs, { readonly axis: number }, RatioInputs & { d: Tensor }>({
  name: "evo_ratio",
  forward(inputs, { axis }) {
    const { x, v, own, batch } = inputs;
    const gamma = v.reshape([1, v.size]).expand(own.shape);
    const q = sampleAffine({ x, gamma, beta: own.cast(x.dtype) }, axis, "EvoNormB0");
    const d = q.maximum(spread(batch, x, axis));
    return { out: x.div(d), saved: { ...inputs, d } };
  },
  backward(dy, { x, v, own, batch, d }, { axis }) {
    const larger = d.greater(spread(batch, x, axis));
    const part = dy.div(d);
    const e = part.mul(x).div(d).neg();
    const [samples, channels] = own.shape as [number, number];
    const { view } = groupColumns(x.shape, channels, axis);
    /** Sums of t and of t x for each sample and channel, [2, N, C], float64. */
    const sums = (t: Tensor) => {
      const out = Tensor.empty([2, samples, channels], "float64");
      const zero = zeros([samples * channels], { dtype: "float64" });
      const stats = { mean: zero.storage, variance: zero.storage };
      kernels.columnSums(x.storage, t.storage, stats, out.storage, view);
      return out;
    };
    const above = sums(e.mul(larger));
    const half = (t: Tensor, index: number) => t.narrow(0, index, 1).reshape([samples, channels]);
    return {
      x: () => where(larger, part.mul(spread(own, x, axis)).div(d), part),
      v: () => half(above, 1).sum(0).cast(v.dtype),
      own: () => half(above, 0),
      batch: () => half(sums(e), 0).sub(half(above, 0)).sum(0),
    };
  },
});

function varianceOfBatch(moments: SampleMoments, channels: number, widen: EvoNormB0Options["widen"]): Tensor {
  const batch = mergeMoments(moments, 0);
  const own = { mean: batch.mean.reshape([channels]), variance: batch.variance.reshape([channels]) };
  return (widen ? widen(own) : own).variance;
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
  { axis, eps, given, widen }: EvoNormB0Options,
): { out: Tensor; variance: Tensor } {
  checkFloating("EvoNormB0", x, { weight, bias, v });
  const moments = instanceMoments(x, axis);
  const variance = given ? given.detach().cast("float64") : varianceOfBatch(moments, v.size, widen);
  const [own, batch] = [moments.variance.add(eps).sqrt(), variance.add(eps).sqrt()];
  const out = channelAffine({ x: evoRatio({ x, v, own, batch }, { axis }), weight, bias }, axis);
  return { out, variance };
}

/**
 * z = x sigmoid(q): dx = sigmoid(q) dz, dq = x sigmoid(q) sigmoid(-q) dz. As o (1 - o) the slope of the sigmoid would lose
 * its digits where o is near 1. Saves x and q, of one shape.
 */
const gate = defineOp<{ x: Tensor; q: Tensor }, Record<never, never>, { x: Tensor; q: Tensor }>({
  name: "gate",
  forward: (inputs) => ({ out: inputs.x.mul(inputs.q.sigmoid()), saved: inputs }),
  backward(dz, { x, q }) {
    const through = dz.mul(q.sigmoid());
    return { x: () => through, q: () => through.mul(x).mul(q.neg().sigmoid()) };
  },
  twiceDifferentiable: true,
});

/**
 * y = weight x sigmoid(v x) / sqrt(group variance + eps) + bias, the last step in one pass of the column kernel.
 * Differentiable by all inputs, through the variance too.
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
  const activated = gate({ x, q: channelAffine({ x, weight: v, bias: null }, axis) }, {});
  return standardize({ x: activated, mean, variance, weight, bias }, { view, eps });
}
