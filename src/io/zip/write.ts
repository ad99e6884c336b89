import { deflateSync } from "fflate";
import { crc32 } from "./crc32.js";

/** A file to be packed; its bytes are made when its turn comes. */
export interface EntryToWrite {
  readonly name: string;
  readonly bytes: () => Uint8Array;
}

/** What a record of zip's consists of: the width of a field in bytes, and its value. */
type Field = readonly [width: 2 | 4 | 8, value: number];

/** 1 January 1980, the first day that zip can tell: equal tensors make equal files. */
const DATE = 0x21;
const WIDE = 0xffffffff;

function record(fields: readonly Field[], ...tails: readonly Uint8Array[]): Uint8Array {
  const length = fields.reduce((n, [width]) => n + width, 0);
  const bytes = new Uint8Array(tails.reduce((n, tail) => n + tail.length, length));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else if (width === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  for (const tail of tails) {
    bytes.set(tail, at);
    at += tail.length;
  }
  return bytes;
}

/** The zip64 field with those of the numbers that 4 bytes do not hold; nothing where all fit. */
function wideExtra(numbers: readonly number[]): Uint8Array {
  const wide = numbers.filter((n) => n >= WIDE);
  if (wide.length === 0) return new Uint8Array(0);
  return record([[2, 1], [2, 8 * wide.length], ...wide.map((n): Field => [8, n])]);
}

const narrow = (n: number): Field => [4, Math.min(n, WIDE)];

/** The parts of a zip file, one after the other, with zip64 records where it needs them (as entries of 4 GB do). */
export function* zipPieces(entries: Iterable<EntryToWrite>, compress: boolean): Generator<Uint8Array> {
  const utf8 = new TextEncoder();
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const { name, bytes } of entries) {
    const data = bytes();
    const packed = compress ? deflateSync(data) : data;
    const path = utf8.encode(name);
    const version = Math.max(data.length, packed.length, at) >= WIDE ? 45 : 20;
    const isAscii = path.length === name.length;
    // Common to the entry's own header and to the directory.
    const common: Field[] = [
      [2, version],
      [2, isAscii ? 0 : 0x800],
      [2, compress ? 8 : 0],
      [2, 0],
      [2, DATE],
      [4, crc32(data)],
      narrow(packed.length),
      narrow(data.length),
      [2, path.length],
    ];
    const localExtra = wideExtra([data.length, packed.length]);
    const local = record([[4, 0x04034b50], ...common, [2, localExtra.length]], path, localExtra);
    const extra = wideExtra([data.length, packed.length, at]);
    const rest: Field[] = [[2, extra.length], [2, 0], [2, 0], [2, 0], [4, 0], narrow(at)];
    directory.push(record([[4, 0x02014b50], [2, version], ...common, ...rest], path, extra));
    yield local;
    yield packed;
    at += local.length + packed.length;
  }
  const size = directory.reduce((n, entry) => n + entry.length, 0);
  yield* directory;
  const count = directory.length;
  if (at >= WIDE || count >= 0xffff) {
    const end = at + size;
    const places: Field[] = [
      [8, count],
      [8, count],
      [8, size],
      [8, at],
    ];
    yield record([[4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], ...places]);
    yield record([
      [4, 0x07064b50],
      [4, 0],
      [8, end],
      [4, 1],
    ]);
  }
  const short: Field = [2, Math.min(count, 0xffff)];
  yield record([[4, 0x06054b50], [2, 0], [2, 0], short, short, narrow(size), narrow(at), [2, 0]]);
}
