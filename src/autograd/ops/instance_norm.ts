import { normalizeAxis } from "../../base/shape.js";
import { checkInstanceStatistics } from "../../norm/checks.js";
import { instanceView, statisticSize } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import type { BatchNormOptions } from "./batch_norm.js";
import { defineNorm, type NormInputs, type NormStatistics } from "./fused_norm.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

const op = defineNorm("instance_norm");

/**
 * Instance normalization: one mean and one biased variance for each sample and channel. Returns them beside the output,
 * for running statistics (`tracked`); the caller disposes them. Evaluation with running statistics is batchNormEval.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; weight and bias [C], each optional; statistics [N * C].
 * Units, saves: see fused_norm.ts.
 * Throws: ShapeError if a sample has one value for each channel, or is missing where statistics are tracked.
 * Source: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
 */
export function instanceNorm(
  inputs: NormInputs,
  { axis, eps, tracked, variance = "biased", activation = null }: BatchNormOptions & { readonly tracked: boolean },
): { out: Tensor; extra: NormStatistics } {
  const { shape } = inputs.x;
  const on = instanceView(shape, axis);
  checkInstanceStatistics("Instance normalization", shape, on, tracked);
  const affineShape = [shape[normalizeAxis(axis, shape.length)]!];
  if (variance === "biased") return op.run(inputs, { on, eps, affineShape, activation });
  const scaled = byUnbiasedVariance(inputs, eps, statisticSize(on), affineShape);
  return op.run(scaled.inputs, { on, eps: scaled.eps, affineShape, activation });
}
