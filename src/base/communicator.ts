export type Numbers = Float64Array | Float32Array;
export type Combination = "sum" | "max" | "min";

/**
 * A group of ranks that compute together, each in a thread or process of its own. Every call is collective: all ranks
 * make the same calls in the same order, and each returns once all have come. Blocking, so that it can be used in the
 * middle of a forward or a backward pass. Throws CommunicationError where ranks do not act together.
 */
export interface Communicator {
  /** This rank's number, 0 to size - 1. */
  readonly rank: number;
  readonly size: number;
  /** data = that of all ranks, of one length and type, combined element by element in the order of ranks: the same bits on each. */
  allReduce(data: Numbers, how: Combination): void;
  /** Copies of what each rank gave, by rank; lengths may differ, and be 0. */
  allGather<T extends Numbers>(data: T): T[];
  /** data = that of rank `root`, which has the same length. */
  broadcast(data: Numbers, root: number): void;
  barrier(): void;
  /** Gives the group up: every rank that waits, and every later call of any rank, throws with this reason. Waits for nobody. */
  abort(reason: string): void;
}

/** A group of one rank. */
export const loopback: Communicator = {
  rank: 0,
  size: 1,
  allReduce() {},
  allGather: <T extends Numbers>(data: T): T[] => [data.slice() as T],
  broadcast() {},
  barrier() {},
  abort() {},
};
