import { onDevice } from "../../memory/device.js";
import { batchView } from "../../norm/views.js";
import { full, zeros } from "../create.js";
import type { Tensor } from "../tensor.js";
import { defineNorm } from "./fused_norm.js";

const op = defineNorm("channel_affine");

/** Means 0 and variances 1: with eps 0, normalization by them is the affine step alone. */
export const neutralStatistics = (length: number) => ({
  mean: zeros([length], { dtype: "float64" }),
  variance: full([length], 1, { dtype: "float64" }),
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
  const given = onDevice(x.device, () => neutralStatistics(channels));
  return op({ x, weight, bias }, { on, eps: 0, affineShape: [channels], given });
}
