import type { Elements } from "../base/communicator.js";
import { arrays, HEADER_BYTES, type Header, readHeader, type TypeName, textAt, writeHeader } from "./calls.js";

const REASON_BYTES = 1024;
/** A piece of a message. Statistics of a few thousand channels fit into one. */
const PIECE_BYTES = 1 << 16;
const RANK_BYTES = 2 * (HEADER_BYTES + PIECE_BYTES);
/** Bit 0 of a rank's word: the group was given up. Rounds count in steps of two above it, and may wrap. */
const GIVEN_UP = 1;

const encoder = new TextEncoder();

/**
 * The shared memory of a group: for each rank a word with the round it has come to, a word that says it joined, and
 * two places for a header and a piece of data; then the reason for which the group was given up, if it was.
 */
export class GroupMemory {
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly start: number;

  constructor(
    private readonly buffer: SharedArrayBuffer,
    private readonly size: number,
  ) {
    this.start = GroupMemory.firstPlace(size);
    this.words = new Int32Array(buffer, 0, 2 * size + 2);
    this.bytes = new Uint8Array(buffer);
  }

  private static reasonAt(size: number): number {
    return 4 * (2 * size + 2);
  }

  private static firstPlace(size: number): number {
    return Math.ceil((GroupMemory.reasonAt(size) + REASON_BYTES) / 64) * 64;
  }

  static bytes(size: number): number {
    return GroupMemory.firstPlace(size) + size * RANK_BYTES;
  }

  /** Whether this thread may block. */
  mayWait(): boolean {
    try {
      Atomics.wait(this.words, 2 * this.size, -1, 0);
      return true;
    } catch {
      return false;
    }
  }

  /** False if that rank has joined before. */
  join(rank: number): boolean {
    return Atomics.compareExchange(this.words, this.size + rank, 0, 1) === 0;
  }

  joined(rank: number): boolean {
    return Atomics.load(this.words, this.size + rank) === 1;
  }

  capacity(type: TypeName): number {
    return PIECE_BYTES / arrays[type].BYTES_PER_ELEMENT;
  }

  place(rank: number, turn: number, type: TypeName): Elements {
    const at = this.headerAt(rank, turn) + HEADER_BYTES;
    const make = arrays[type] as new (buffer: SharedArrayBuffer, at: number, length: number) => Elements;
    return new make(this.buffer, at, this.capacity(type));
  }

  write(rank: number, turn: number, header: Header, piece: Elements): void {
    writeHeader(this.buffer, this.headerAt(rank, turn), header);
    this.place(rank, turn, header.type).set(piece);
  }

  header(rank: number, turn: number): Header {
    return readHeader(this.buffer, this.headerAt(rank, turn));
  }

  private headerAt(rank: number, turn: number): number {
    return this.start + rank * RANK_BYTES + turn * (HEADER_BYTES + PIECE_BYTES);
  }

  /** Says that `rank` has come to `round` and waits for the others. Returns those that did not come; empty if aborted. */
  meet(rank: number, round: number, milliseconds: number): number[] {
    const { words, size } = this;
    Atomics.add(words, rank, 2);
    Atomics.notify(words, rank);
    const target = (round * 2) | 0;
    const until = performance.now() + milliseconds;
    const missing: number[] = [];
    for (let r = 0; r < size; r++) {
      for (;;) {
        const word = Atomics.load(words, r);
        if (word & GIVEN_UP) return [];
        if ((((word & ~GIVEN_UP) - target) | 0) >= 0) break;
        const left = until - performance.now();
        if (left > 0) {
          Atomics.wait(words, r, word, left);
          continue;
        }
        missing.push(r);
        break;
      }
    }
    return missing;
  }

  /** The first reason counts. Every rank's word changes, so that nobody falls asleep on the way to waiting for it. */
  abort(reason: string): void {
    const { words, size } = this;
    if (Atomics.compareExchange(words, 2 * size, 0, 1) !== 0) return;
    const text = encoder.encode(reason).subarray(0, REASON_BYTES);
    this.bytes.set(text, GroupMemory.reasonAt(size));
    Atomics.store(words, 2 * size + 1, 1);
    for (let r = 0; r < size; r++) {
      Atomics.or(words, r, GIVEN_UP);
      Atomics.notify(words, r);
    }
  }

  /** Why the group was given up, or null. */
  aborted(): string | null {
    if (Atomics.load(this.words, 2 * this.size) === 0) return null;
    // Another thread is about to have written the reason.
    while (Atomics.load(this.words, 2 * this.size + 1) === 0);
    return textAt(this.buffer, GroupMemory.reasonAt(this.size), REASON_BYTES);
  }
}
