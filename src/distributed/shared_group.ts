import type { Combination, Communicator, Elements, Numbers } from "../base/communicator.js";
import { CommunicationError, DeviceError, OptionError, StateError } from "../base/errors.js";
import { checkNumber, checkPositiveInteger, readOptions } from "../base/options.js";
import { finished, type Pending } from "../base/pending.js";
import { differing, type Header, typeOf } from "./calls.js";
import { GroupMemory } from "./group_memory.js";

export interface GroupOptions {
  /** Seconds that a rank waits for the others before it gives the group up. Default 60. */
  readonly timeout?: number;
}

/** A group of threads of one process. A plain object: send it to each worker, which calls joinGroup with its rank. */
export interface GroupDescription {
  readonly size: number;
  readonly timeout: number;
  readonly buffer: SharedArrayBuffer;
}

/** Makes a group of `size` ranks. Throws DeviceError where memory cannot be shared. */
export function sharedGroup(size: number, options?: GroupOptions): GroupDescription {
  checkPositiveInteger("sharedGroup: size", size);
  const o = readOptions("sharedGroup", options, { timeout: 60 });
  checkNumber("sharedGroup: timeout", o.timeout, "a number of seconds above 0", (v) => v > 0);
  if (typeof SharedArrayBuffer === "undefined") {
    throw new DeviceError({
      rule: "A group of threads needs SharedArrayBuffer",
      got: "a platform without it",
      fix: "In a browser, serve the page with COOP: same-origin and COEP: require-corp",
    });
  }
  return { size, timeout: o.timeout, buffer: new SharedArrayBuffer(GroupMemory.bytes(size)) };
}

/**
 * Gives a group up from outside, as when the thread that starts the workers sees one of them die: all ranks that wait
 * wake up with a CommunicationError.
 */
export function abortGroup({ buffer, size }: GroupDescription, reason: string): void {
  new GroupMemory(buffer, size).abort(`The group was given up: ${reason}`);
}

/** The communicator of one rank. Each rank joins once, in a thread that may block (a worker, or Node's main thread). */
export function joinGroup(description: GroupDescription, rank: number): Communicator {
  const { size, buffer, timeout } = description;
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) {
    throw new OptionError({ rule: `joinGroup: rank must be a whole number from 0 to ${size - 1}`, got: String(rank) });
  }
  const memory = new GroupMemory(buffer, size);
  if (!memory.mayWait()) {
    throw new StateError({
      rule: "A rank waits for the others, which a browser's main thread may not",
      got: "joinGroup on the main thread",
      fix: "Join in a worker",
    });
  }
  if (!memory.join(rank)) {
    throw new StateError({
      rule: "Each rank joins a group once",
      got: `a second rank ${rank}`,
      fix: "Give each worker a number of its own",
    });
  }
  return new SharedCommunicator(memory, rank, size, timeout);
}

/**
 * Each call goes in rounds of one message a rank. In a round a rank writes its header and a piece of its data, says so,
 * waits until all have, and reads the others' pieces. Two places a rank, used in turn, spare a second wait: who writes
 * the next piece but one has seen everybody arrive at the next round, hence past reading this one.
 */
class SharedCommunicator implements Communicator {
  private round = 0;
  private broken: CommunicationError | null = null;

  constructor(
    private readonly memory: GroupMemory,
    readonly rank: number,
    readonly size: number,
    private readonly timeout: number,
  ) {}

  allReduce(data: Numbers, how: Combination): void {
    const header = { call: `allReduce ${how}`, type: typeOf(data), length: data.length };
    this.exchange(header, data, true, (place, from, length) => {
      for (let i = 0; i < length; i++) {
        // In double, by rank: the same bits on every rank.
        let value = place(0)[i]!;
        for (let r = 1; r < this.size; r++) {
          const other = place(r)[i]!;
          value = how === "sum" ? value + other : how === "max" ? Math.max(value, other) : Math.min(value, other);
        }
        data[from + i] = value;
      }
    });
  }

  allGather<T extends Elements>(data: T): T[] {
    const make = data.constructor as new (length: number) => T;
    const results: T[] = [];
    const header = { call: "allGather", type: typeOf(data), length: data.length };
    this.exchange(header, data, false, (place, from, _length, lengths) => {
      for (let r = 0; r < this.size; r++) {
        results[r] ??= new make(lengths[r]!);
        const length = Math.min(lengths[r]! - from, place(r).length);
        if (length > 0) results[r]!.set(place(r).subarray(0, length), from);
      }
    });
    return results;
  }

  broadcast(data: Elements, root: number): void {
    if (!Number.isInteger(root) || root < 0 || root >= this.size) {
      throw new OptionError({ rule: `broadcast: root must be a rank from 0 to ${this.size - 1}`, got: String(root) });
    }
    const header = { call: `broadcast from rank ${root}`, type: typeOf(data), length: data.length };
    this.exchange(header, data, true, (place, from, length) => data.set(place(root).subarray(0, length), from));
  }

  barrier(): void {
    this.exchange({ call: "barrier", type: "float64", length: 0 }, new Float64Array(0), true, () => {});
  }

  // Threads meet in blocking calls: memory has no network that could carry a message while they compute.
  allReduceAsync(data: Numbers, how: Combination): Pending<void> {
    return finished(this.allReduce(data, how));
  }

  allGatherAsync<T extends Elements>(data: T): Pending<T[]> {
    return finished(this.allGather(data));
  }

  broadcastAsync(data: Elements, root: number): Pending<void> {
    return finished(this.broadcast(data, root));
  }

  barrierAsync(): Pending<void> {
    return finished(this.barrier());
  }

  split(): never {
    throw new StateError({
      rule: "A group of threads cannot be split: each group has memory of its own, which threads are started with",
      got: "split()",
      fix: "Make a sharedGroup for each part as well, and join both",
    });
  }

  splitByNode(): Communicator {
    return this;
  }

  abort(reason: string): void {
    this.memory.abort(`Rank ${this.rank} gave the group up: ${reason}`);
  }

  /** Sends `data` in pieces; `read` gets for each piece the place of each rank, where the piece starts, and its length. */
  private exchange(
    header: Header,
    data: Elements,
    sameLength: boolean,
    read: (place: (rank: number) => Elements, from: number, length: number, lengths: readonly number[]) => void,
  ): void {
    if (this.broken) throw this.broken;
    const { memory, rank } = this;
    const capacity = memory.capacity(header.type);
    let longest = data.length;
    for (let from = 0; from === 0 || from < longest; from += capacity) {
      const turn = this.round & 1;
      memory.write(rank, turn, header, data.subarray(from, from + capacity));
      this.round++;
      this.meet();
      const headers = Array.from({ length: this.size }, (_, r) => memory.header(r, turn));
      this.checkAlike(headers, sameLength);
      const lengths = headers.map((h) => h.length);
      longest = Math.max(...lengths);
      const places = headers.map((h, r) => memory.place(r, turn, h.type));
      read((r) => places[r]!, from, Math.min(capacity, data.length - from), lengths);
    }
  }

  private meet(): void {
    const { memory, timeout, rank } = this;
    const missing = memory.meet(rank, this.round, timeout * 1000);
    if (missing.length > 0) {
      const names = missing.map((r) => `${r}${memory.joined(r) ? "" : " (which never joined)"}`).join(", ");
      this.abort(`rank ${names} did not come within ${timeout} seconds`);
    }
    const reason = memory.aborted();
    if (reason === null) return;
    this.broken = new CommunicationError({
      rule: "All ranks of a group make the same calls, none stays away",
      got: reason,
      fix: "Look for the first error among the ranks; the others follow from it",
    });
    throw this.broken;
  }

  /** Every rank sees the same headers, so that all of them throw or none does. */
  private checkAlike(headers: readonly Header[], sameLength: boolean): void {
    this.broken = differing(headers, sameLength);
    if (this.broken) throw this.broken;
  }
}
