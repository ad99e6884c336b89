import { scope } from "../../memory/scope.js";
import { groupColumns, statisticSize } from "../../norm/views.js";
import { full, zeros } from "../create.js";
import { noGrad } from "../graph.js";
import type { Tensor } from "../tensor.js";
import { columnMoments, normalizeAmong } from "./column_parts.js";
import { checkInputs, type NormInputs } from "./fused_norm.js";

export interface VirtualBatchNormOptions {
  readonly axis: number;
  readonly eps: number;
  /** Of the reference batch: mean and biased variance of each channel, float64, and how many values they were taken from. Constants. */
  readonly reference: { readonly mean: Tensor; readonly variance: Tensor; readonly count: number };
}

/**
 * Virtual batch normalization: each example by the statistics of the reference batch and the example together, merged by
 * Chan's formula; no example sees the others of its batch. The gradient goes through the example's own part.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`, which is not the batch axis; weight and bias [C], each optional.
 * Saves:  x, weight, and N * C means, variances and counts.
 * Source: Salimans et al. 2016, arXiv:1606.03498, section 3.5.
 */
export function virtualBatchNorm(inputs: NormInputs, { axis, eps, reference }: VirtualBatchNormOptions): Tensor {
  const { x } = inputs;
  const channels = reference.mean.size;
  const on = groupColumns(x.shape, channels, axis);
  checkInputs("virtual_batch_norm", inputs, [channels]);
  return scope(() => {
    const statistics = [on.view.batch * channels];
    const count = statisticSize(on);
    const moments = noGrad(() => columnMoments({ x }, { view: on.view }));
    const [mean, variance] = [moments.narrow(0, 0, 1), moments.narrow(0, 1, 1)];
    const all = reference.count + count;
    const counts = full(statistics, all, { dtype: "float64" });
    const shape = [on.view.batch, channels];
    // Without positions nothing counts, and moments are NaN.
    const own = (t: Tensor) => (count === 0 ? zeros(shape, { dtype: "float64" }) : t.reshape(shape));
    // As mergeMoments of norm/moments.ts.
    const share = count / all;
    const [given, known] = [reference.mean.detach(), reference.variance.detach()];
    const delta = own(mean).sub(given);
    const spread = delta.square().mul(reference.count * share);
    const merged = {
      mean: delta.mul(share).add(given).reshape(statistics),
      variance: own(variance).mul(count).add(known.mul(reference.count)).add(spread).div(all).reshape(statistics),
    };
    return normalizeAmong({ ...inputs, ...merged, counts }, { view: on.view, eps });
  });
}
