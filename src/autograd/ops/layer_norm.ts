import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { layerView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { defineNorm, type NormInputs } from "./fused_norm.js";

const op = defineNorm("layer_norm");

export interface LayerNormOptions {
  /** Lengths of the last axes, which a statistic spans. */
  readonly normalizedShape: Shape;
  readonly eps: number;
  /** What y goes through in the same pass. */
  readonly activation?: NormActivation | null;
}

/**
 * Layer normalization: one mean and one biased variance for each position of the leading axes, over the last ones.
 *
 * Shapes: x and y [..., ...normalizedShape]; weight and bias normalizedShape, each optional.
 * Units, saves: see fused_norm.ts.
 * Throws: ShapeError if x does not end in normalizedShape.
 * Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450.
 */
export function layerNorm(inputs: NormInputs, { normalizedShape, eps, activation = null }: LayerNormOptions): Tensor {
  const on = layerView(inputs.x.shape, normalizedShape);
  return op(inputs, { on, eps, affineShape: normalizedShape, activation });
}
