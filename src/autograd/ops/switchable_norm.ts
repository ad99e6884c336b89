import { normalizeAxis } from "../../base/shape.js";
import { checkInstanceStatistics } from "../../norm/checks.js";
import { besselFactor, type VarianceConvention } from "../../norm/moments.js";
import { groupColumns, statisticSize } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { standardize } from "./column_parts.js";
import { checkFloating } from "./floating.js";
import type { NormStatistics } from "./fused_norm.js";
import { instanceMoments, mergeMoments } from "./instance_moments.js";
import { softmax } from "./softmax.js";

export interface SwitchableInputs {
  readonly x: Tensor;
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  /** Before the softmax: instance, layer and, unless it is left out, batch. */
  readonly meanWeight: Tensor;
  readonly varWeight: Tensor;
}

export interface SwitchableOptions {
  readonly axis: number;
  readonly eps: number;
  /** "unbiased" takes M2 / (n - 1) of each sample and channel, and merges those. */
  readonly variance: VarianceConvention;
  /** Statistics to use for the batch's; constants in backward. */
  readonly given?: { readonly mean: Tensor; readonly variance: Tensor };
}

/**
 * Switchable normalization: y = weight (x - mu) / sqrt(v + eps) + bias with mu_nc = sum_k a_k mu_k and v_nc = sum_k b_k v_k
 * over k = instance [N, C], layer [N, 1], batch [1, C]; a = softmax(meanWeight), b = softmax(varWeight). With two weights
 * the batch is left out. One pass over x takes the instance moments, the others are merged from them in float64, and a
 * second pass normalizes. Differentiable by all inputs, through all statistics.
 *
 * Shapes: x and y [N, ..., C, ...], rank 3 or more; weight and bias [C]; statistics of the batch [C], float64.
 * Throws: ShapeError if a sample has one value for each channel; DTypeError.
 * Source: Luo et al. 2018, arXiv:1806.10779.
 */
export function switchableNorm(
  { x, weight, bias, meanWeight, varWeight }: SwitchableInputs,
  { axis, eps, variance, given }: SwitchableOptions,
): { out: Tensor; batch: NormStatistics } {
  const { shape } = x;
  checkFloating("Switchable normalization", x, { weight, bias, meanWeight, varWeight });
  const on = groupColumns(shape, shape[normalizeAxis(axis, shape.length)]!, axis);
  checkInstanceStatistics("Switchable normalization", shape, on, meanWeight.size === 3 && !given);
  const moments = instanceMoments(x, axis);
  const instance =
    variance === "biased" ? moments : { ...moments, variance: moments.variance.mul(besselFactor(statisticSize(on))) };
  const layer = mergeMoments(instance, 1);
  const row = (t: Tensor) => t.detach().cast("float64").reshape([1, t.size]);
  const batch = given ? { mean: row(given.mean), variance: row(given.variance) } : mergeMoments(instance, 0);
  const mixed = (weights: Tensor, of: "mean" | "variance") => {
    // WebGPU has no exponential of float64. Shares multiply what sets the other statistics apart from the instance's, so that
    // a sum of shares that rounding took from 1 moves no mean, and what they lack is lost of these differences alone.
    const exact = x.device === "cpu" ? weights.cast("float64") : weights;
    const shares = softmax(exact).cast("float64");
    const others = [layer, batch].slice(0, weights.size - 1);
    const parts = others.map((kind, k) => kind[of].sub(instance[of]).mul(shares.narrow(0, k + 1, 1)));
    return parts.reduce((sum, part) => sum.add(part), instance[of]).reshape([-1]);
  };
  const stats = { mean: mixed(meanWeight, "mean"), variance: mixed(varWeight, "variance") };
  const out = standardize({ x, ...stats, weight, bias }, { view: on.view, eps });
  return { out, batch: { mean: batch.mean.reshape([-1]), variance: batch.variance.reshape([-1]) } };
}
