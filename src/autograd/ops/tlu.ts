import { normalizeAxis } from "../../base/shape.js";
import type { Tensor } from "../tensor.js";
import { checkInputs } from "./fused_norm.js";

/**
 * Thresholded linear unit: y = max(x, tau), one threshold a channel. dx = dy where x > tau, dtau = sum of dy where
 * x < tau; where they are equal each gets half.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`; tau [C]. Saves x and tau.
 * Source: Singh & Krishnan 2019, arXiv:1911.09737.
 */
export function tlu({ x, tau }: { x: Tensor; tau: Tensor }, axis = 1): Tensor {
  const a = normalizeAxis(axis, x.rank, "The channel axis");
  checkInputs("tlu", { x, tau }, [x.shape[a]!]);
  return x.maximum(tau.reshape([tau.size, ...x.shape.slice(a + 1).map(() => 1)]));
}
