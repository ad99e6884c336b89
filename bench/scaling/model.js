// What a message and a training step take, from a few numbers. Times are seconds, sizes bytes.

const rounds = (ranks) => Math.ceil(Math.log2(ranks));

/**
 * The ways in which a message goes among `ranks` ranks that each have `bytes`: how often a rank waits for another (steps), how many
 * messages it sends, and how many bytes. Doubling: in each step with a rank twice as far away. Ring: each passes parts on to the next.
 */
export const ways = {
  "gather by doubling": (bytes, ranks) => ({
    steps: rounds(ranks),
    messages: rounds(ranks),
    bytes: (ranks - 1) * bytes,
  }),
  // A part to every rank at once, then the sums of parts round the ring.
  "parts to all, then ring": (bytes, ranks) => ({
    steps: 1 + (ranks - 1),
    messages: 2 * (ranks - 1),
    bytes: (2 * (ranks - 1) * bytes) / ranks,
  }),
  "sum by doubling": (bytes, ranks) => ({
    steps: rounds(ranks),
    messages: rounds(ranks),
    bytes: rounds(ranks) * bytes,
  }),
  // Halves, quarters, ... are exchanged and added, then collected the same way (Thakur, Rabenseifner & Gropp 2005).
  "sum by halving and doubling": (bytes, ranks) => ({
    steps: 2 * rounds(ranks),
    messages: 2 * rounds(ranks),
    bytes: (2 * (ranks - 1) * bytes) / ranks,
  }),
};

/** Bytes of a rank up to which "ordered" sums are gathered whole (mpi_communicator.ts). */
export const WHOLE_BYTES = 1 << 15;
/** Bytes from which MPI libraries halve and double rather than send everything: between 2 and 10 KiB in both. */
const LIBRARY_BYTES = 1 << 13;

/** Kinds of messages: which way each goes, and in which line of the fit its own cost stands. */
export const kinds = {
  ordered: (bytes) =>
    bytes <= WHOLE_BYTES
      ? { way: "gather by doubling", line: "ordered, whole" }
      : { way: "parts to all, then ring", line: "ordered, in parts" },
  library: (bytes) =>
    bytes <= LIBRARY_BYTES
      ? { way: "sum by doubling", line: "library, small" }
      : { way: "sum by halving and doubling", line: "library, large" },
  gather: () => ({ way: "gather by doubling", line: "gather" }),
};

/**
 * Least squares on relative error of seconds = call + bytes * perByte. Points: { bytes, seconds }; neither result is below 0.
 */
export function fitLine(points) {
  const sums = { oo: 0, ob: 0, bb: 0, o: 0, b: 0 };
  for (const { bytes, seconds } of points) {
    const [one, byte] = [1 / seconds, bytes / seconds];
    sums.oo += one * one;
    sums.ob += one * byte;
    sums.bb += byte * byte;
    sums.o += one;
    sums.b += byte;
  }
  const { oo, ob, bb, o, b } = sums;
  const determinant = oo * bb - ob * ob;
  const [call, perByte] = [(o * bb - b * ob) / determinant, (b * oo - o * ob) / determinant];
  if (!(perByte >= 0)) return { call: o / oo, perByte: 0 };
  if (call < 0) return { call: 0, perByte: b / bb };
  return { call, perByte };
}

/**
 * @typedef {{ name: string, latency: number, perMessage: number, bytesPerSecond: number }} Network
 * @typedef {{ lines: Record<string, { call: number, perByte: number }>, network: Network }} On
 */

/** The links that ranks may meet over; `perMessage` is what the processor does for each. Shared memory costs what the fit says. */
export const memory = { name: "shared memory", latency: 0, perMessage: 0, bytesPerSecond: Infinity };

/**
 * Seconds of a message. `lines` are the fit of 2 ranks that share memory: what the processor does for the call and for each byte, in
 * any network; to that a network adds its latency for each step and its rate.
 */
export function messageTime(kind, bytes, ranks, { lines, network }) {
  if (ranks === 1) return 0;
  const { way, line } = kinds[kind](bytes, ranks);
  const { steps, messages, bytes: sent } = ways[way](bytes, ranks);
  const { call, perByte } = lines[line];
  const waits = steps * network.latency + messages * network.perMessage;
  return call + sent * perByte + waits + sent / network.bytesPerSecond;
}

/** Seconds that a synchronized batch normalization of `channels` adds to a step: it gathers forward, and adds up sums backward. */
export function synchronizationTime(channels, ranks, on) {
  const forward = messageTime("gather", 8 * (2 * channels + 2), ranks, on);
  return forward + messageTime("ordered", 8 * 2 * channels, ranks, on);
}

/** As GradientReducer's, in bytes. */
const usualBucket = (bytes, ranks) => Math.max(Math.min(bytes / 8, 1 << 20), ranks << 15);

/**
 * A step of data-parallel training: what a rank computes, what of the gradients' message is not hidden behind backward, and
 * the messages of synchronized normalizations, of which nothing can be hidden. `hidden`: the share of the
 * computing time behind which messages fit; gradients then go in buckets, of which the last is never hidden. Without it they go in one message.
 *
 * @param {{ compute: number, parameters: number, channels?: readonly number[] }} model
 * @param {number} ranks
 * @param {On & { sums?: "ordered" | "library", hidden?: number, bucketBytes?: number, statistics?: On & { ranks?: number } }} on
 */
export function stepTime({ compute, parameters, channels = [] }, ranks, on) {
  const bytes = 4 * parameters;
  const { sums = "ordered", hidden = 0, bucketBytes = usualBucket(bytes, ranks), statistics = on } = on;
  const whole = messageTime(sums, bytes, ranks, on);
  const bucket = messageTime(sums, Math.min(bucketBytes, bytes), ranks, on);
  const rest = bytes % bucketBytes;
  const inBuckets = Math.floor(bytes / bucketBytes) * bucket + (rest > 0 ? messageTime(sums, rest, ranks, on) : 0);
  const gradients = hidden > 0 ? inBuckets : whole;
  const exposed = hidden > 0 ? Math.max(bucket, inBuckets - hidden * compute) : whole;
  const among = statistics.ranks ?? ranks;
  const synchronization = channels.reduce((sum, c) => sum + synchronizationTime(c, among, statistics), 0);
  return { compute, gradients, exposed, synchronization, seconds: compute + exposed + synchronization };
}
