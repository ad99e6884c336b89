import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { machineEpsilon } from "../../norm/family.js";
import { layerView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { defineNorm } from "./fused_norm.js";

const op = defineNorm("rms_norm");

export interface RmsNormOptions {
  readonly normalizedShape: Shape;
  readonly eps: number | null;
  /** Added to the weight, if there is one: y = (weightOffset + weight) * xhat. Default 0. */
  readonly weightOffset?: number;
  /** What y goes through in the same pass. */
  readonly activation?: NormActivation | null;
}

/**
 * Root-mean-square normalization: y = weight * x / sqrt(<x^2> + eps), <.> the mean over the last axes; nothing is
 * subtracted and there is no bias. eps null means the machine epsilon of x's type.
 *
 * Shapes: x and y [..., ...normalizedShape]; weight normalizedShape, optional.
 * Units, saves: see fused_norm.ts; there is no mu, and <x^2> stands for var.
 * Throws: ShapeError if x does not end in normalizedShape.
 * Source: Zhang & Sennrich 2019, arXiv:1910.07467.
 */
export function rmsNorm(
  { x, weight }: { x: Tensor; weight: Tensor | null },
  { normalizedShape, eps, weightOffset = 0, activation = null }: RmsNormOptions,
): Tensor {
  const on = layerView(x.shape, normalizedShape);
  const options = { on, eps: eps ?? machineEpsilon(x.dtype), affineShape: normalizedShape, centred: false, activation };
  return op({ x, weight: weight && weightOffset !== 0 ? weight.add(weightOffset) : weight, bias: null }, options);
}
