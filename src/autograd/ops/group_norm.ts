import { normalizeAxis } from "../../base/shape.js";
import { groupView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { defineNorm, type NormInputs } from "./fused_norm.js";

export interface GroupNormOptions {
  readonly groups: number;
  /** The channel axis; 1 for [N, C, ...], -1 for channels last. */
  readonly axis: number;
  readonly eps: number;
}

const op = defineNorm("group_norm");

/**
 * Group normalization: one mean and one biased variance for each sample and each run of C / groups channels. groups = 1
 * is layer normalization over channels and space, groups = C is instance normalization. A group of one value has
 * variance 0, so its output is the bias.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; weight and bias [C], each optional.
 * Units, saves: see fused_norm.ts.
 * Throws: ShapeError if x has rank < 2, or if groups does not divide C.
 * Source: Wu & He 2018, arXiv:1803.08494.
 */
export function groupNorm(inputs: NormInputs, { groups, axis, eps }: GroupNormOptions): Tensor {
  const { shape } = inputs.x;
  const on = groupView(shape, groups, axis);
  return op(inputs, { on, eps, affineShape: [shape[normalizeAxis(axis, shape.length)]!] });
}
