import { normalizeAxis } from "../../base/shape.js";
import { checkInstanceStatistics } from "../../norm/checks.js";
import { besselFactor, type VarianceConvention } from "../../norm/moments.js";
import { groupColumns, statisticSize } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { standardize } from "./column_parts.js";
import { checkFloating } from "./floating.js";
import type { NormStatistics } from "./fused_norm.js";
import { instanceMoments, mergeMoments, type SampleMoments } from "./instance_moments.js";
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

/** What is mixed: moments of each sample and channel [N, C], of each sample [N, 1], and of the batch [1, C]. */
export interface SwitchableMoments {
  readonly instance: SampleMoments;
  readonly layer: SampleMoments;
  readonly batch: SampleMoments;
}

/** All three from one pass over x, the others merged in float64 from the instances'. Differentiable. */
export function switchableMoments(
  x: Tensor,
  { axis, variance }: Pick<SwitchableOptions, "axis" | "variance">,
): SwitchableMoments {
  const moments = instanceMoments(x, axis);
  const positions = statisticSize(channelsOf(x, axis));
  const instance =
    variance === "biased" ? moments : { ...moments, variance: moments.variance.mul(besselFactor(positions)) };
  return { instance, layer: mergeMoments(instance, 1), batch: mergeMoments(instance, 0) };
}

const channelsOf = ({ shape }: Tensor, axis: number) =>
  groupColumns(shape, shape[normalizeAxis(axis, shape.length)]!, axis);

/** Normalization by the mixture of given moments. Differentiable by all inputs, and through the moments. */
export function normalizeMixed(
  { x, weight, bias, meanWeight, varWeight }: SwitchableInputs,
  { instance, layer, batch }: SwitchableMoments,
  { axis, eps }: Pick<SwitchableOptions, "axis" | "eps">,
): Tensor {
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
  return standardize({ x, ...stats, weight, bias }, { view: channelsOf(x, axis).view, eps });
}

/** What x must be; `tracked` where statistics of this very batch are needed. */
export function checkSwitchable({ x, ...parameters }: SwitchableInputs, axis: number, tracked: boolean): void {
  checkFloating("Switchable normalization", x, parameters);
  checkInstanceStatistics("Switchable normalization", x.shape, channelsOf(x, axis), tracked);
}

/** Statistics of a batch [C], as they are mixed. */
export const batchRow = ({ mean, variance }: SampleMoments): SampleMoments => ({
  mean: mean.cast("float64").reshape([1, mean.size]),
  variance: variance.cast("float64").reshape([1, variance.size]),
});

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
  inputs: SwitchableInputs,
  { given, ...options }: SwitchableOptions,
): { out: Tensor; batch: NormStatistics } {
  checkSwitchable(inputs, options.axis, inputs.meanWeight.size === 3 && !given);
  const own = switchableMoments(inputs.x, options);
  const batch = given ? batchRow({ mean: given.mean.detach(), variance: given.variance.detach() }) : own.batch;
  const out = normalizeMixed(inputs, { ...own, batch }, options);
  return { out, batch: { mean: batch.mean.reshape([-1]), variance: batch.variance.reshape([-1]) } };
}
