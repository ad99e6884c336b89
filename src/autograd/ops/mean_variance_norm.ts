import { axesView } from "../../norm/axes_view.js";
import type { Tensor } from "../tensor.js";
import { defineRescale } from "./column_rescale.js";
import { where } from "./elementwise.js";
import { overAxes } from "./over_axes.js";

const op = defineRescale(
  "mean_variance_norm",
  {
    square: (squares, _m, eps) => squares.sqrt().add(eps).square(),
    feedback(squares, _m, eps) {
      const s = squares.sqrt();
      return where(s.greater(0), s.add(eps).div(s), 0);
    },
  },
  true,
);

/**
 * Standardization with eps beside the deviation: y = (x - mu) / (sigma + eps), mu and the biased sigma over `axes`.
 *   dx = (dy - <dy> - z * <dy * z>) / (sigma + eps) with z = (x - mu) / sigma in one place and y in the other:
 *   the product of the two is (x - mu)^2 / (sigma (sigma + eps)).
 * Equal values give 0, and the deviation's gradient, which has no limit there, counts as 0.
 *
 * Shapes: x and y alike. Saves: x and three numbers a statistic.
 * Source: ONNX, MeanVarianceNormalization.
 */
export function meanVarianceNorm(
  x: Tensor,
  { axes, eps }: { readonly axes: readonly number[]; readonly eps: number },
): Tensor {
  return overAxes(x, axesView(x.shape, axes), (t, view) => {
    return op({ x: t, weight: null, bias: null, eps: null }, { view, eps });
  });
}
