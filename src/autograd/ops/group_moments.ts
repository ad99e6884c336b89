import type { Communicator } from "../../base/communicator.js";
import { ShapeError } from "../../base/errors.js";
import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import { mergeColumns } from "../../norm/moments.js";
import type { ColumnView } from "../../norm/views.js";
import { tensor } from "../create.js";
import { Tensor } from "../tensor.js";

/** Moments of the batches of all ranks, the same bits on each. */
export interface GroupMoments {
  /** [C], float64; the variance is the biased one. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Values of each channel, and samples, of all ranks together. */
  readonly values: number;
  readonly samples: number;
}

const HEAD = 2;

/** What a rank tells the others: samples, values a channel, then means and M2 of x's own channels. */
function messageOf(x: Tensor, view: ColumnView, samples: number): Float64Array {
  const { channels } = view;
  const message = new Float64Array(HEAD + 2 * channels);
  message[0] = samples;
  const count = view.outer * view.inner;
  if (count === 0) return message;
  scope(() => {
    const mean = Tensor.empty([channels], "float64");
    const variance = Tensor.empty([channels], "float64");
    kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, view);
    message[1] = count;
    message.set(mean.storage.view, HEAD);
    for (let c = 0; c < channels; c++) message[HEAD + channels + c] = variance.storage.view[c]! * count;
  });
  return message;
}

interface GatherMomentsOptions {
  /** One statistic a channel. */
  readonly view: ColumnView;
  /** What this rank adds to the number of samples. */
  readonly samples: number;
  readonly communicator: Communicator;
  /** Who asks, for an error's text. */
  readonly layer: string;
}

/**
 * The moments of the x of all ranks; one message. Every rank merges the same numbers in the same order, so all have the same
 * bits, and all throw or none does. Ranks must have as many channels as each other.
 *
 * Shapes: x any that has the view's elements, none of them too.
 * Throws: ShapeError on every rank if all ranks together have fewer than two values for each channel; CommunicationError if
 *         a rank stays away.
 */
export function gatherMoments(x: Tensor, { view, samples, communicator, layer }: GatherMomentsOptions): GroupMoments {
  const messages = communicator.allGather(messageOf(x, view, samples), { equalLengths: true });
  const { channels } = view;
  const sets = messages.map((m) => ({
    count: m[1]!,
    mean: m.subarray(HEAD, HEAD + channels),
    m2: m.subarray(HEAD + channels),
  }));
  const { count: values, mean, m2 } = mergeColumns(sets, channels);
  if (values < 2) {
    throw new ShapeError({
      rule: `${layer} over several ranks takes statistics from more than one value for each channel`,
      got: `${values} on ${communicator.size} ranks together, ${messages[communicator.rank]![1]} of them here`,
      fix: "Skip batches that are empty on all ranks, use larger ones, or call eval()",
    });
  }
  const statistic = (numbers: Float64Array) => tensor(numbers, { dtype: "float64" });
  return {
    mean: statistic(mean),
    variance: statistic(m2.map((v) => v / values)),
    values,
    samples: messages.reduce((sum, m) => sum + m[0]!, 0),
  };
}
