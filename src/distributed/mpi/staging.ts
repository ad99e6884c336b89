import type { Elements } from "../../base/communicator.js";
import { heap } from "../../memory/heap.js";
import { arrays, type TypeName } from "../calls.js";

const LINE = 64;
const lines = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;

/** Elements of the heap; to be taken afresh for each use, since the heap may have grown. */
export function elementsAt(type: TypeName, ptr: number, length: number): Elements {
  const make = arrays[type] as new (buffer: ArrayBufferLike, at: number, length: number) => Elements;
  return new make(heap.memory.buffer, ptr, length);
}

/** A block of the heap that is one call's while it goes on: the handle of its request, and places for what it needs beside. */
export class Staging {
  /** Where the request is. */
  readonly request: number;
  private readonly block: number;
  private next: number;

  /** With room for places of so many bytes. */
  constructor(...bytes: number[]) {
    let total = LINE;
    for (const b of bytes) total += lines(b);
    this.block = heap.allocate(total);
    this.request = heap.address(this.block);
    this.next = this.request + LINE;
  }

  /** The next place. */
  take(bytes: number): number {
    const at = this.next;
    this.next += lines(bytes);
    return at;
  }

  /** Whole numbers for the library. */
  takeWords(words: ArrayLike<number>): number {
    const at = this.take(4 * words.length);
    heap.words.set(words, at / 4);
    return at;
  }

  free(): void {
    heap.free(this.block);
  }
}
