import type { Batch } from "./running_stats.js";

type Gather = (layer: object, batch: Batch) => void;

let gather: Gather | null = null;

/** Who is given the statistics of training batches instead of the layers' running ones, or null. */
export const gatherer = (): Gather | null => gather;

/** Runs `body` with every batch's statistics given to `to`; no running statistics move meanwhile. */
export function gatherStatistics<T>(to: Gather, body: () => T): T {
  const before = gather;
  gather = to;
  try {
    return body();
  } finally {
    gather = before;
  }
}
