import type { DType } from "../../base/dtype.js";
import { batchView } from "../../norm/views.js";
import { full } from "../create.js";
import type { Tensor } from "../tensor.js";
import { defineNorm } from "./fused_norm.js";

const op = defineNorm("channel_affine");

/** Mean 0 and variance 1 for each channel: with eps 0, normalization by them is the affine step alone. */
const identity = (channels: number, dtype: DType) => ({
  mean: full([channels], 0, { dtype }),
  variance: full([channels], 1, { dtype }),
});

/**
 * y = weight x + bias, one weight and one bias for each channel, in one pass; its backward is one pass too.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`; weight and bias [C], each optional.
 * Saves:  x and weight.
 */
export function channelAffine(
  { x, weight, bias }: { x: Tensor; weight: Tensor | null; bias: Tensor | null },
  axis = 1,
): Tensor {
  if (!weight && !bias) return x;
  const on = batchView(x.shape, axis);
  const { channels } = on.view;
  return op({ x, weight, bias }, { on, eps: 0, affineShape: [channels], given: identity(channels, "float64") });
}
