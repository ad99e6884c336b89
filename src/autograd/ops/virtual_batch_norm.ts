import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import type { Moments } from "../../norm/moments.js";
import { groupColumns, statisticSize } from "../../norm/views.js";
import { full } from "../create.js";
import { Tensor } from "../tensor.js";
import { normalizeAmong } from "./column_parts.js";
import { checkInputs, type NormInputs } from "./fused_norm.js";

export interface VirtualBatchNormOptions {
  readonly axis: number;
  readonly eps: number;
  /** Moments of the reference batch, one for each channel; constants. */
  readonly reference: readonly Moments[];
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
  const channels = reference.length;
  const on = groupColumns(x.shape, channels, axis);
  checkInputs("virtual_batch_norm", inputs, [channels]);
  return scope(() => {
    const statistics = [on.view.batch * channels];
    const mean = Tensor.empty(statistics, "float64");
    const variance = Tensor.empty(statistics, "float64");
    const count = statisticSize(on);
    if (x.size > 0) kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, on.view);
    const counts = full(statistics, reference[0]!.count + count, { dtype: "float64" });
    const [m, v] = [mean.storage.view, variance.storage.view];
    if (count === 0) for (const own of [m, v]) own.fill(0);
    // mergeMoments in place: there may be as many statistics as values.
    for (let at = 0; at < m.length; at++) {
      const r = reference[at % channels]!;
      const delta = m[at]! - r.mean;
      const share = count / (r.count + count);
      v[at] = (r.m2 + v[at]! * count + delta * delta * r.count * share) / (r.count + count);
      m[at] = r.mean + delta * share;
    }
    return normalizeAmong({ ...inputs, mean, variance, counts }, { view: on.view, eps });
  });
}
