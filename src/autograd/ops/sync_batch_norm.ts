import type { Communicator } from "../../base/communicator.js";
import { ShapeError } from "../../base/errors.js";
import { formatShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import { biasedVariance, type Moments, mergeMoments, noMoments } from "../../norm/moments.js";
import { batchView, type ColumnView, statisticSize } from "../../norm/views.js";
import { full, tensor } from "../create.js";
import { Tensor } from "../tensor.js";
import type { BatchNormOptions } from "./batch_norm.js";
import { normalizeAmong } from "./column_parts.js";
import { checkInputs, type NormInputs, type NormStatistics } from "./fused_norm.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

export interface SyncBatchNormOptions extends Omit<BatchNormOptions, "allowLone" | "activation"> {
  readonly communicator: Communicator;
}

/** Count, then means, then M2 of x's own channels: what a rank tells the others. */
function messageOf(x: Tensor, view: ColumnView, count: number): Float64Array {
  const { channels } = view;
  const message = new Float64Array(1 + 2 * channels);
  if (count === 0) return message;
  scope(() => {
    const mean = Tensor.empty([channels], "float64");
    const variance = Tensor.empty([channels], "float64");
    kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, view);
    message[0] = count;
    message.set(mean.storage.view, 1);
    for (let c = 0; c < channels; c++) message[1 + channels + c] = variance.storage.view[c]! * count;
  });
  return message;
}

/** Every rank merges the same messages in the same order, so all have the same bits, and all throw or none does. */
function merge(messages: readonly Float64Array[], channels: number): Moments[] {
  const lengths = messages.map((m) => (m.length - 1) / 2);
  if (lengths.some((n) => n !== lengths[0])) {
    throw new ShapeError({
      rule: "Synchronized batch normalization takes as many channels on every rank",
      got: lengths.map((n, rank) => `${n} on rank ${rank}`).join(", "),
    });
  }
  return Array.from({ length: channels }, (_, c) =>
    messages
      .map((m): Moments => ({ count: m[0]!, mean: m[1 + c]!, m2: m[1 + channels + c]! }))
      .reduce(mergeMoments, noMoments),
  );
}

/**
 * Batch normalization by the statistics of the batches of all ranks, which may differ in size and be empty. Forward sends
 * one message, [count, means, M2], and merges by Chan's formula in the order of ranks; backward sends one, the sums of dy
 * and of dy * (x - mean). A rank with an empty batch sends both like the others: its output must take part in the loss.
 * dx as in normalizeAmong; dweight and dbias are of x's own elements, to be added up over ranks with all gradients.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`, all but the batch axis alike on all ranks; statistics [C], of all ranks.
 * Saves:  x, weight, mean, variance, counts.
 * Throws: ShapeError on every rank if all ranks together have fewer than two values for each channel, or the ranks
 *         differ in channels; CommunicationError if a rank stays away.
 * Source: Peng et al. 2018, arXiv:1711.07240.
 */
export function syncBatchNorm(
  inputs: NormInputs,
  { axis, eps, variance = "biased", communicator }: SyncBatchNormOptions,
): { out: Tensor; extra: NormStatistics; values: number } {
  return scope(() => joined(inputs, { axis, eps, variance, communicator }));
}

function joined(inputs: NormInputs, { axis, eps, variance, communicator }: Required<SyncBatchNormOptions>) {
  const { x } = inputs;
  const { view, ...on } = batchView(x.shape, axis);
  const { channels } = view;
  checkInputs("sync_batch_norm", inputs, [channels]);
  const own = statisticSize({ ...on, view });
  const merged = merge(communicator.allGather(messageOf(x, view, own)), channels);
  const values = merged[0]?.count ?? 0;
  if (values < 2) {
    throw new ShapeError({
      rule: "Synchronized batch normalization takes statistics from more than one value for each channel",
      got: `${values} on ${communicator.size} ranks together, here an input of shape ${formatShape(x.shape)}`,
      fix: "Skip batches that are empty on all ranks, use larger ones, or call eval()",
    });
  }
  const statistic = (of: (m: Moments) => number) => tensor(Float64Array.from(merged, of), { dtype: "float64" });
  const extra = { mean: statistic((m) => m.mean), variance: statistic(biasedVariance) };
  const scaled = variance === "biased" ? { inputs, eps } : byUnbiasedVariance(inputs, eps, values, [channels]);
  const counts = full([channels], values, { dtype: "float64" });
  const out = normalizeAmong(
    { ...scaled.inputs, ...extra, counts },
    { view, eps: scaled.eps, gather: (sums) => communicator.allReduce(sums.storage.view as Float64Array, "sum") },
  );
  return { out, extra, values };
}
