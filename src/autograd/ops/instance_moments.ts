import { normalizeAxis } from "../../base/shape.js";
import { groupColumns } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { columnMoments } from "./column_parts.js";

/** Means and biased variances, float64. */
export interface SampleMoments {
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/**
 * Moments of each sample and channel in one pass over x, differentiable.
 *
 * Shapes: x [N, ..., C, ...] with C on `axis`; results [N, C], float64.
 */
export function instanceMoments(x: Tensor, axis: number): SampleMoments {
  const channels = x.shape[normalizeAxis(axis, x.rank)]!;
  const both = columnMoments({ x }, { view: groupColumns(x.shape, channels, axis).view });
  const at = (index: number) => both.narrow(0, index, 1).reshape([x.shape[0]!, channels]);
  return { mean: at(0), variance: at(1) };
}

/**
 * Moments of unions, along one axis, of sets of equal size: Chan, Golub & LeVeque 1983 for any number of sets at once,
 * mean = <mean_k>, variance = <variance_k + (mean_k - mean)^2>. Nothing cancels, as it would in <x^2> - mean^2.
 */
export function mergeMoments({ mean, variance }: SampleMoments, axis: number): SampleMoments {
  const keep = { keepDim: true };
  const all = mean.mean(axis, keep);
  return { mean: all, variance: variance.add(mean.sub(all).square()).mean(axis, keep) };
}
