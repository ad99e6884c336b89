import type { ColumnView } from "../../norm/views.js";
import { full } from "../create.js";
import { noGrad } from "../graph.js";
import { defineOp } from "../op.js";
import type { Tensor } from "../tensor.js";
import { columnMoments, momentsSlope, standardize } from "./column_parts.js";
import { where } from "./elementwise.js";

type Inputs = { x: Tensor; valid: Tensor; counts: Tensor };

/**
 * Mean and biased variance of the values of each column statistic where `valid` is not 0, which may be few of them or none. As
 * many values as there are, padding counted, are summed as 0: first x, which gives the mean, then x less that mean, which
 * gives the squares, and what rounding took from the mean. dx = (dmean + 2 (x - mean) dvariance) / count, also at padding.
 *
 * Shapes: x any that has the view's elements, 0 at padding; valid broadcasts to x's shape; counts [statistics], float64, how many
 *         values are valid; the result [2, statistics], float64: means, then variances; 0 where there is no value.
 * Saves:  x, the result and the counts.
 */
export const maskedMoments = defineOp<
  Inputs,
  { readonly view: ColumnView },
  { x: Tensor; out: Tensor; counts: Tensor }
>({
  name: "masked_moments",
  forward({ x, valid, counts }, { view }) {
    const some = counts.maximum(1);
    const share = some.reciprocal().mul(view.outer * view.merge * view.inner);
    const halves = (t: Tensor) => {
      const both = columnMoments({ x: t }, { view });
      return [0, 1].map((i) => both.narrow(0, i, 1).reshape([counts.size])) as [Tensor, Tensor];
    };
    const [all] = halves(x);
    const near = all.mul(share);
    const one = full([counts.size], 1, { dtype: "float64" });
    const centred = standardize({ x, mean: near, variance: one, weight: null, bias: null }, { view, eps: 0 });
    const [rest, squares] = halves(where(valid, centred, 0));
    const left = rest.mul(share);
    const variance = squares.add(rest.square()).mul(share).sub(left.square());
    const out = near
      .add(left)
      .reshape([1, counts.size])
      .concat(variance.maximum(0).reshape([1, counts.size]));
    return { out, saved: { x, out, counts: some } };
  },
  backward: (d, { x, out, counts }, { view }) => ({ x: () => momentsSlope(d, x, out, counts, view) }),
});

/** How many of x's values are valid for each statistic, [statistics], float64. */
export function validCounts(x: Tensor, valid: Tensor, { batch, channels, merge }: ColumnView): Tensor {
  return noGrad(() => {
    const ones = valid.cast("float64");
    const others = ones.shape.flatMap((_, i) => (batch > 1 && i === 0 ? [] : [i]));
    const counts = ones.sum(others, { keepDim: true }).mul(merge);
    return counts
      .reshape([batch > 1 ? x.shape[0]! : 1, 1])
      .expand([batch, channels / merge])
      .reshape([(batch * channels) / merge]);
  });
}
