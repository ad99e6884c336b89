import type { VarianceConvention } from "../../norm/moments.js";
import type { ColumnView } from "../../norm/views.js";
import { full } from "../create.js";
import type { Tensor } from "../tensor.js";
import { type Gathering, normalizeAmong, normalizeBeside } from "./column_parts.js";
import type { NormInputs } from "./fused_norm.js";
import type { GroupMoments } from "./group_moments.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

// Batch normalization by the statistics of the batches of all ranks, which may differ in size and be empty. Forward sends one
// message, [samples, count, means, M2], and merges by Chan's formula in the order of ranks; backward sends one, the sums of
// dy and of dy * (x - mean) and, where they are wanted of all ranks, dweight and dbias. A rank with an empty batch sends both
// like the others: its output must take part in the loss. Source: Peng et al. 2018, arXiv:1711.07240.

export interface GroupNormalizeOptions {
  readonly view: ColumnView;
  readonly eps: number;
  readonly variance?: VarianceConvention;
  /** How sums become those of all ranks, as many of whose elements as in `moments` are normalized together. */
  readonly gather: Gathering;
}

export const countsOf = ({ mean, values }: Pick<GroupMoments, "mean" | "values">): Tensor =>
  full([mean.size], values, { dtype: "float64" });

/** Inputs and eps by which normalization with the biased variance divides by the one that is asked for. */
export function scaledByGroup(
  inputs: NormInputs,
  { values, mean }: GroupMoments,
  { eps, variance = "biased" }: Pick<GroupNormalizeOptions, "eps" | "variance">,
) {
  return variance === "biased" ? { inputs, eps } : byUnbiasedVariance(inputs, eps, values, [mean.size]);
}

/**
 * y = weight * xhat + bias by the moments of all ranks, which x's own values are among. dx as in normalizeAmong.
 *
 * Shapes: x and y any that has the view's elements; weight and bias [C], each optional.
 * Saves:  x, weight, mean, variance, counts.
 */
export function normalizeByGroup(inputs: NormInputs, moments: GroupMoments, options: GroupNormalizeOptions): Tensor {
  const { view, gather } = options;
  const used = scaledByGroup(inputs, moments, options);
  const { mean, variance } = moments;
  return normalizeAmong({ ...used.inputs, mean, variance, counts: countsOf(moments) }, { view, eps: used.eps, gather });
}

/** The same for an x that the moments were not taken from: they are of `valid`, seen as `on`, and its like on other ranks. */
export function normalizeBesideGroup(
  { valid, ...inputs }: NormInputs & { valid: Tensor },
  moments: GroupMoments,
  { on, ...options }: GroupNormalizeOptions & { on: ColumnView },
): Tensor {
  const { view, gather } = options;
  const used = scaledByGroup(inputs, moments, options);
  const { mean, variance } = moments;
  return normalizeBeside(
    { ...used.inputs, valid, mean, variance, counts: countsOf(moments) },
    { view, on, eps: used.eps, gather },
  );
}
