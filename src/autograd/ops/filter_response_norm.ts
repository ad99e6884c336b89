import { normalizeAxis } from "../../base/shape.js";
import { groupColumns, instanceView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { defineRescale, type RescaleInputs } from "./column_rescale.js";
import { checkInputs, defineNorm } from "./fused_norm.js";

const rows = defineNorm("filter_response_norm");
const columns = defineRescale(
  "filter_response_norm",
  { square: (squares, _m, eps) => squares.add(typeof eps === "number" ? Math.abs(eps) : eps.abs()), feedback: null },
  false,
);

export interface FilterResponseOptions {
  /** The channel axis; 1 for [N, C, ...], -1 for channels last. */
  readonly axis: number;
  /** Used where there is no tensor eps. */
  readonly eps: number;
}

/**
 * Filter response normalization: y = weight * x / sqrt(nu2 + |eps|) + bias, nu2 the mean of x^2 over the positions of one
 * sample and channel. With rho = 1 / sqrt(nu2 + |eps|), xhat = x rho, g = weight * dy, <.> the mean over those positions:
 *   dx = rho * (g - xhat * <g * xhat>), deps = sum of -g * x * rho^3 / 2 * sign(eps).
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; weight and bias [C], each optional; eps [1], optional.
 * Saves:  x, weight, eps, and one to three numbers for each sample and channel.
 * Source: Singh & Krishnan 2019, arXiv:1911.09737.
 */
export function filterResponseNorm(inputs: RescaleInputs, { axis, eps }: FilterResponseOptions): Tensor {
  const { x, weight, bias } = inputs;
  const channels = x.shape[normalizeAxis(axis, x.rank, "The channel axis")]!;
  const on = instanceView(x.shape, axis);
  if (on.kernel === "row" && !inputs.eps) {
    return rows({ x, weight, bias }, { on, eps: Math.abs(eps), affineShape: [channels], centred: false });
  }
  checkInputs("filter_response_norm", { x, weight, bias }, [channels]);
  return columns(inputs, { view: groupColumns(x.shape, channels, axis).view, eps });
}
