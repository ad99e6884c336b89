import type { Communicator } from "../../base/communicator.js";
import { ShapeError } from "../../base/errors.js";
import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import { type MomentColumns, mergeColumns } from "../../norm/moments.js";
import type { ColumnView } from "../../norm/views.js";
import { tensor, zeros } from "../create.js";
import { defineOp } from "../op.js";
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

/** What a rank has itself: values a channel, means and M2, which count for nothing where there are no values. */
function columnsOf(x: Tensor, view: ColumnView): MomentColumns {
  const { channels } = view;
  const count = view.outer * view.inner;
  if (count === 0) return { count, mean: new Float64Array(channels), m2: new Float64Array(channels) };
  return scope(() => {
    const mean = Tensor.empty([channels], "float64");
    const variance = Tensor.empty([channels], "float64");
    kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, view);
    return columnsFrom(mean, variance, count);
  });
}

const columnsFrom = (mean: Tensor, variance: Tensor, count: number): MomentColumns => ({
  count,
  mean: mean.storage.view.slice() as Float64Array,
  m2: (variance.storage.view as Float64Array).map((v) => v * count),
});

interface Ranks {
  /** What this rank adds to the number of samples. */
  readonly samples: number;
  readonly communicator: Communicator;
  /** Who asks, for an error's text. */
  readonly layer: string;
}

const HEAD = 2;

/** Sends [samples, count, means, M2], and merges what all ranks sent in the order of ranks. */
function mergeOverRanks({ count, mean, m2 }: MomentColumns, { samples, communicator, layer }: Ranks): GroupMoments {
  const channels = mean.length;
  const message = new Float64Array(HEAD + 2 * channels);
  message.set([samples, count]);
  message.set(mean, HEAD);
  message.set(m2, HEAD + channels);
  const messages = communicator.allGather(message, { equalLengths: true });
  const sets = messages.map((m) => ({
    count: m[1]!,
    mean: m.subarray(HEAD, HEAD + channels),
    m2: m.subarray(HEAD + channels),
  }));
  const all = mergeColumns(sets, channels);
  const { count: values } = all;
  if (values < 2) {
    throw new ShapeError({
      rule: `${layer} over several ranks takes statistics from more than one value for each channel`,
      got: `${values} on ${communicator.size} ranks together, ${count} of them here`,
      fix: "Skip batches that are empty on all ranks, use larger ones, or call eval()",
    });
  }
  const statistic = (numbers: Float64Array) => tensor(numbers, { dtype: "float64" });
  return {
    mean: statistic(all.mean),
    variance: statistic(all.m2.map((v) => v / values)),
    values,
    samples: messages.reduce((sum, m) => sum + m[0]!, 0),
  };
}

/**
 * The moments of the x of all ranks; one message. Every rank merges the same numbers in the same order, so all have the same
 * bits, and all throw or none does. Ranks must have as many channels as each other.
 *
 * Shapes: x any that has the view's elements, none of them too. One statistic a channel.
 * Throws: ShapeError on every rank if all ranks together have fewer than two values for each channel; CommunicationError if
 *         a rank stays away.
 */
export const gatherMoments = (x: Tensor, { view, ...ranks }: Ranks & { readonly view: ColumnView }): GroupMoments =>
  mergeOverRanks(columnsOf(x, view), ranks);

type Own = { mean: Tensor; variance: Tensor };

interface JoinOptions {
  readonly all: GroupMoments;
  /** This rank's values of each channel. */
  readonly count: number;
  readonly add: (own: Float64Array) => void;
}

/**
 * Moments of all ranks' values from those of each rank's own. With m of M values here, and the gradients to the joined moments, which each
 * rank has a part of, added up over ranks:
 * dmean_k = m / M (dmean + 2 (mean_k - mean) dvariance), dvariance_k = m / M dvariance. The way from there to x is that of the own moments.
 *
 * Shapes: mean and variance [C]; the result [2, C]: means, then variances; all float64.
 * Saves:  mean, and that of all.
 */
const joinMoments = defineOp<Own, JoinOptions, { mean: Tensor; joined: Tensor }>({
  name: "join_moments",
  forward({ mean }, { all }) {
    const row = [1, mean.size];
    return { out: all.mean.reshape(row).concat(all.variance.reshape(row)), saved: { mean, joined: all.mean } };
  },
  backward(d, { mean, joined }, { all, count, add }) {
    // d may be seen by others.
    const sums = d.mul(1);
    add(sums.storage.view as Float64Array);
    const share = count / all.values;
    const half = (i: 0 | 1) => sums.narrow(0, i, 1).reshape([mean.size]);
    const none = () => zeros([mean.size], { dtype: "float64" });
    return {
      mean: () => (count === 0 ? none() : half(1).mul(mean.sub(joined)).mul(2).add(half(0)).mul(share)),
      variance: () => half(1).mul(share),
    };
  },
});

/**
 * The same from moments that this rank has taken already, and differentiable: one message forward, and one backward of every rank,
 * wherever a gradient goes to its moments.
 *
 * Shapes: mean and biased variance [C], float64, of `count` values of each channel; without values they count for nothing.
 * Throws: as gatherMoments.
 */
export function shareMoments(
  { mean, variance }: Own,
  { count, ...ranks }: Ranks & { readonly count: number },
): GroupMoments {
  const none = new Float64Array(mean.size);
  const own = count === 0 ? { count, mean: none, m2: none } : columnsFrom(mean, variance, count);
  const all = mergeOverRanks(own, ranks);
  const add = (numbers: Float64Array) => ranks.communicator.allReduce(numbers, "sum");
  const joined = joinMoments({ mean, variance }, { all, count, add });
  const part = (i: 0 | 1) => joined.narrow(0, i, 1).reshape([mean.size]);
  return { ...all, mean: part(0), variance: part(1) };
}
