import { finished, type Pending } from "./pending.js";

/** What ranks compute with. */
export type Numbers = Float64Array | Float32Array;
/** What ranks hand to each other. */
export type Elements = Numbers | Int32Array | Uint8Array;
export type Combination = "sum" | "max" | "min";

export interface GatherOptions {
  /**
   * The caller knows that every rank gives as many elements; the lengths are then not sent before them, which saves a
   * message. Where they differ after all, what happens is an error at best. Default false.
   */
  readonly equalLengths?: boolean;
}

/**
 * A group of ranks that compute together, each in a thread or process of its own. Every call but abort is collective: all
 * ranks make the same calls in the same order. Those named ...Async begin a call and return; `data` is the group's until
 * it is complete (see Pending). The others return once it is complete: blocking, so that they can be used in the middle of a
 * forward or a backward pass. Throws CommunicationError where ranks do not act together.
 */
export interface Communicator {
  /** This rank's number, 0 to size - 1. */
  readonly rank: number;
  readonly size: number;
  /** data = that of all ranks, of one length and type, combined element by element in the order of ranks: the same bits on each. */
  allReduce(data: Numbers, how: Combination): void;
  allReduceAsync(data: Numbers, how: Combination): Pending<void>;
  /** Copies of what each rank gave, by rank; lengths may differ, and be 0. */
  allGather<T extends Elements>(data: T, options?: GatherOptions): T[];
  allGatherAsync<T extends Elements>(data: T, options?: GatherOptions): Pending<T[]>;
  /** data = that of rank `root`, which has the same length. */
  broadcast(data: Elements, root: number): void;
  broadcastAsync(data: Elements, root: number): Pending<void>;
  barrier(): void;
  barrierAsync(): Pending<void>;
  /** Process groups: the ranks that give the same color become a group of their own, in the order of their ranks here; with null a rank joins none. */
  split(color: number | null): Communicator | null;
  /** The ranks that share this one's machine. */
  splitByNode(): Communicator;
  /** Gives the group up: every rank that waits, and every later call of any rank, throws with this reason or ends. Waits for nobody. */
  abort(reason: string): void;
}

/** A group of one rank. A plain object: `{ ...loopback, allReduce }` is one with another allReduce, also behind allReduceAsync. */
export const loopback: Communicator = {
  rank: 0,
  size: 1,
  allReduce() {},
  allReduceAsync(data, how) {
    return finished(this.allReduce(data, how));
  },
  allGather: <T extends Elements>(data: T): T[] => [data.slice() as T],
  allGatherAsync(data, options) {
    return finished(this.allGather(data, options));
  },
  broadcast() {},
  broadcastAsync(data, root) {
    return finished(this.broadcast(data, root));
  },
  barrier() {},
  barrierAsync() {
    return finished(this.barrier());
  },
  split(color) {
    return color === null ? null : this;
  },
  splitByNode() {
    return this;
  },
  abort() {},
};
