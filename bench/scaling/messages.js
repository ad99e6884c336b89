import { tensor, zeros } from "../../dist/index.js";
import { timeInTurns } from "./turns.js";

/** Bytes of float32 numbers that are added up. */
export const messageBytes = Array.from({ length: 12 }, (_, i) => 4 ** (i + 1));
/** Channels of a batch normalization. */
export const gatherChannels = [16, 64, 256, 1024, 2048];

/** Small whole numbers, of which every way of adding up gives the same sum. */
const numbers = (rank, length) => Float32Array.from({ length }, (_, i) => ((i + rank) % 5) + rank);

function check(name, add, { rank, size }, length) {
  const kept = tensor(numbers(rank, length));
  const data = kept.storage.view;
  add(data);
  const all = Array.from({ length: size }, (_, r) => numbers(r, length));
  const wrong = data.findIndex((value, i) => value !== all.reduce((sum, of) => sum + of[i], 0));
  const found = data[wrong];
  kept.dispose();
  if (wrong >= 0) throw new Error(`${name} of ${length} numbers gives ${found} as element ${wrong}`);
}

/** Milliseconds of an all-reduce by bytes, of data on the heap, where gradients are: by rank in order, by the library without blocking, and by its blocking call. */
export function timeMessages({ ordered, library, raw }, pace) {
  const ways = {
    ordered: (data) => ordered.allReduce(data, "sum"),
    library: (data) => library.allReduce(data, "sum"),
    raw,
  };
  return messageBytes.map((bytes) => {
    for (const [name, add] of Object.entries(ways)) check(name, add, ordered, bytes / 4);
    const kept = zeros([bytes / 4]);
    const data = kept.storage.view;
    const bodies = Object.entries(ways).map(([name, add]) => [name, { body: () => add(data) }]);
    const times = timeInTurns(ordered, Object.fromEntries(bodies), pace);
    kept.dispose();
    return { bytes, ...times };
  });
}

/** Milliseconds of what a synchronized batch normalization sends for its channels: forward gathers, backward adds up. */
export function timeSynchronization({ ordered }, pace) {
  return gatherChannels.map((channels) => {
    const own = new Float64Array(2 * channels + 2).fill(ordered.rank);
    const sums = new Float64Array(2 * channels);
    const all = ordered.allGather(own, { equalLengths: true });
    if (all.some((of, rank) => of.length !== own.length || of.some((v) => v !== rank)))
      throw new Error(`allGather of ${own.length} numbers gives others`);
    const ways = {
      gather: { body: () => ordered.allGather(own, { equalLengths: true }) },
      "gather of unknown lengths": { body: () => ordered.allGather(own) },
      sums: { body: () => ordered.allReduce(sums, "sum") },
    };
    return { channels, ...timeInTurns(ordered, ways, pace) };
  });
}
