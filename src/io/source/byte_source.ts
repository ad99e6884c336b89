import { damaged } from "../damage.js";

/** Bytes that can be read at any place, a part at a time: a file of 4 GB needs no 4 GB of memory. */
export interface ByteSource {
  /** What errors call it. */
  readonly name: string;
  readonly size: number;
  /** The bytes [from, to), which may be a view into something larger. Throws FormatError where the source ends before `to`. */
  read(from: number, to: number): Promise<Uint8Array>;
  close(): void;
}

/** The same for what needs no waiting. */
export interface SyncSource extends ByteSource {
  readNow(from: number, to: number): Uint8Array;
}

/** Throws FormatError unless [from, to) lies inside of a source. */
export function checkRange(from: number, to: number, { name, size }: { name: string; size: number }): void {
  if (from >= 0 && from <= to && to <= size) return;
  const got = `${size} bytes where ${to} are needed`;
  throw damaged(name, from, { rule: "The file must hold what it announces", got, fix: "It is cut short or damaged" });
}
