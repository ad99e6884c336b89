import { heap } from "../memory/heap.js";
import type { MemoryPool } from "../memory/pool.js";
import { Storage, setHostAccess } from "../memory/storage.js";

/**
 * What a function did with memory, in order, so that the same can be done again without the function: kernel calls, and
 * the JavaScript that must run each time (`everyTime`).
 */
export class Tape {
  private readonly calls: (() => void)[] = [];
  private readonly held = new Set<Storage>();
  /** Places whose gradient the function cleared. */
  readonly cleared = new Set<object>();

  constructor(readonly pool: MemoryPool) {}

  /** Runs `body` and writes down what it does. */
  record<T>(body: () => T): T {
    const before = switchTo(this);
    try {
      return body();
    } finally {
      switchTo(before);
    }
  }

  play(): void {
    for (let i = 0; i < this.calls.length; i++) this.calls[i]!();
  }

  push(call: () => void): void {
    this.calls.push(call);
  }

  /** Keeps a storage that the calls use for as long as they can be played. */
  hold(storage: Storage): void {
    if (this.held.has(storage)) return;
    this.held.add(storage);
    storage.retain();
  }

  /** Gives back what is held; the tape cannot be played after it. */
  dispose(): void {
    this.calls.length = 0;
    for (const storage of this.held) storage.release();
    this.held.clear();
    this.pool.close();
  }
}

/** What is being recorded; null while nothing is, and inside what is recorded as a whole. */
let tape: Tape | null = null;

export const currentTape = (): Tape | null => tape;

function switchTo(to: Tape | null): Tape | null {
  const before = tape;
  tape = to;
  heap.usePool(to?.pool ?? null);
  setHostAccess(to === null);
  return before;
}

/**
 * Runs `body` now, and in its place each time a captured step is repeated. For what depends on more than tensors: a
 * learning rate, the next random number, a check of what a tensor holds. It must hold on to storages, not to tensors: those are
 * disposed with the scope they were made in, while their memory still comes to hold what it held.
 */
export function everyTime(body: () => void): void {
  const to = tape;
  if (to === null) {
    body();
    return;
  }
  switchTo(null);
  try {
    body();
  } finally {
    switchTo(to);
  }
  to.push(body);
}

/** Records a kernel call, and keeps what it uses from outside. */
export function recordCall(args: readonly unknown[], call: () => void): void {
  holdAll(tape!, args);
  everyTime(call);
}

/** Storages made before the recording, among arguments and in the lists and plans among them. */
function holdAll(to: Tape, values: readonly unknown[]): void {
  for (const value of values) {
    if (value instanceof Storage) {
      if (!value.pooled) to.hold(value);
    } else if (Array.isArray(value)) {
      if (typeof value[0] === "object") holdAll(to, value);
    } else if (typeof value === "object" && value !== null) {
      holdAll(to, Object.values(value));
    }
  }
}
