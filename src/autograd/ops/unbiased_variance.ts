import type { Shape } from "../../base/shape.js";
import { besselFactor } from "../../norm/moments.js";
import { full } from "../create.js";
import type { NormInputs } from "./fused_norm.js";

/**
 * Inputs and eps with which normalization by a biased variance v of `count` values divides by the unbiased one instead:
 * with b = count / (count - 1), w (x - mu) / sqrt(v b + eps) = (w / sqrt(b)) (x - mu) / sqrt(v + eps / b).
 */
export function byUnbiasedVariance(
  { x, weight, bias }: NormInputs,
  eps: number,
  count: number,
  affineShape: Shape,
): { inputs: NormInputs; eps: number } {
  const b = besselFactor(count);
  const scale = 1 / Math.sqrt(b);
  const scaled = weight ? weight.mul(scale) : full(affineShape, scale, { dtype: x.dtype });
  return { inputs: { x, weight: scaled, bias }, eps: eps / b };
}
