import { damaged } from "../damage.js";
import type { ByteSource } from "../source/byte_source.js";
import { type Reading, readPart } from "../source/reading.js";

/** A file inside a zip file, as the directory at its end announces it. */
export interface ZipEntry {
  readonly name: string;
  readonly deflated: boolean;
  readonly crc: number;
  /** The length in the zip file, in bytes. */
  readonly packed: number;
  /** The length once unpacked, in bytes. */
  readonly size: number;
  /** Where its own header begins. */
  readonly at: number;
  /** Where what comes after it begins: its bytes end before. */
  readonly limit: number;
}

const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const ENTRY = 0x02014b50;
const END_SIZE = 22;
const ENTRY_SIZE = 46;
/** Nothing is shorter than its header of 30 bytes. */
export const LOCAL_SIZE = 30;
/** Deflate makes 258 bytes of 2 bits at best. */
const LARGEST_RATIO = 1032;
const STORED = 0;
const DEFLATED = 8;

export const dataView = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/**
 * The directory of a zip file (PKWARE's APPNOTE 6.3, with its zip64 records): stored and deflated entries in one file, none
 * encrypted, each name once, none sharing bytes with another. Nothing is unpacked. Throws FormatError for anything else.
 */
export function* readDirectory(source: ByteSource): Reading<ReadonlyMap<string, ZipEntry>> {
  const { name: file } = source;
  const { count, from, size } = yield* readEnd(source);
  const bytes = yield* readPart(source, from, from + size);
  const view = dataView(bytes);
  const found: Omit<ZipEntry, "limit">[] = [];
  let place = 0;
  for (let i = 0; i < count; i++) {
    const at = from + place;
    if (place + ENTRY_SIZE > size || view.getUint32(place, true) !== ENTRY) {
      throw damaged(file, at, { rule: `The directory has ${count} entries`, got: `${i}` });
    }
    const lengths = [28, 30, 32].map((field) => view.getUint16(place + field, true)) as [number, number, number];
    const next = place + ENTRY_SIZE + lengths[0] + lengths[1] + lengths[2];
    if (next > size)
      throw damaged(file, at, { rule: "An entry lies within the directory", got: `${next - size} bytes beyond` });
    found.push(readEntry(bytes.subarray(place, next), lengths, file, at));
    place = next;
  }
  if (place !== size) {
    throw damaged(file, from + place, {
      rule: `The directory has ${count} entries`,
      got: `${size - place} bytes more`,
    });
  }
  return inPlace(found, from, file);
}

/** Where the directory is: from the record at the end of the file, which a comment may follow. */
function* readEnd(source: ByteSource): Reading<{ count: number; from: number; size: number }> {
  const { name: file, size } = source;
  const begin = Math.max(0, size - END_SIZE - 0xffff);
  const tail = yield* readPart(source, begin, size);
  const view = dataView(tail);
  let at = tail.length - END_SIZE;
  while (
    at >= 0 &&
    !(view.getUint32(at, true) === END && at + END_SIZE + view.getUint16(at + 20, true) === tail.length)
  )
    at--;
  if (at < 0) {
    const fix = "It is cut short, or of another format";
    throw damaged(file, size, { rule: "A zip file ends with its directory", got: "none", fix });
  }
  let disk = view.getUint16(at + 4, true) | view.getUint16(at + 6, true);
  let count = view.getUint16(at + 10, true);
  let length = view.getUint32(at + 12, true);
  let from = view.getUint32(at + 16, true);
  let end = begin + at;
  if (count === 0xffff || length === 0xffffffff || from === 0xffffffff) {
    const rule = "A file of 4 GB or more has zip64 records";
    if (end < 76) throw damaged(file, end, { rule, got: "none" });
    const locator = dataView(yield* readPart(source, end - 20, end));
    const place = Number(locator.getBigUint64(8, true));
    if (locator.getUint32(0, true) !== LOCATOR_64 || place > end - 76)
      throw damaged(file, end - 20, { rule, got: "none" });
    const record = dataView(yield* readPart(source, place, place + 56));
    if (record.getUint32(0, true) !== END_64) throw damaged(file, place, { rule, got: "something else" });
    disk = record.getUint32(16, true) | record.getUint32(20, true);
    [count, length, from] = [32, 40, 48].map((field) => Number(record.getBigUint64(field, true))) as [
      number,
      number,
      number,
    ];
    end = place;
  }
  if (disk !== 0) throw damaged(file, end, { rule: "A zip file is one file", got: "one of several" });
  if (from + length > end || count * ENTRY_SIZE > length) {
    const got = `${count} entries in ${length} bytes from byte ${from}`;
    throw damaged(file, end, { rule: "The directory lies within the file and holds its entries", got });
  }
  return { count, from, size: length };
}

function readEntry(
  bytes: Uint8Array,
  [nameLength, extraLength]: readonly [number, number, number],
  file: string,
  place: number,
): Omit<ZipEntry, "limit"> {
  const view = dataView(bytes);
  const extra = bytes.subarray(ENTRY_SIZE + nameLength, ENTRY_SIZE + nameLength + extraLength);
  const name = nameOf(bytes.subarray(ENTRY_SIZE, ENTRY_SIZE + nameLength), file, place);
  const where = `entry ${JSON.stringify(name)}`;
  if (view.getUint16(8, true) & 1) {
    throw damaged(file, where, {
      rule: "Entries are not encrypted",
      got: "one that is",
      fix: "Unpack it with its password first",
    });
  }
  const method = view.getUint16(10, true);
  if (method !== STORED && method !== DEFLATED) {
    throw damaged(file, where, {
      rule: "Entries are stored (0) or deflated (8)",
      got: `method ${method}`,
      fix: "Pack it again",
    });
  }
  const [size, packed, at] = wideFields(
    [24, 20, 42].map((field) => view.getUint32(field, true)),
    extra,
    file,
    where,
  );
  const fits = method === STORED ? packed === size : size <= packed * LARGEST_RATIO;
  if (!fits) {
    const rule =
      method === STORED ? "A stored entry has one size" : `Deflate packs ${LARGEST_RATIO} bytes into one at best`;
    throw damaged(file, where, { rule, got: `${packed} bytes for ${size}` });
  }
  return { name, deflated: method === DEFLATED, crc: view.getUint32(16, true), packed, size, at };
}

function nameOf(bytes: Uint8Array, file: string, at: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch (error) {
    throw damaged(file, at, { rule: "Names in a zip file are UTF-8", got: "bytes that are none" }, error);
  }
}

/** Fields of all ones stand in the extra field of type 1, with 8 bytes each. */
function wideFields(short: number[], extra: Uint8Array, file: string, where: string): [number, number, number] {
  const view = dataView(extra);
  let at = 0;
  while (at + 4 <= extra.length && view.getUint16(at, true) !== 1) at += 4 + view.getUint16(at + 2, true);
  const end = at + 4 <= extra.length ? Math.min(extra.length, at + 4 + view.getUint16(at + 2, true)) : 0;
  at += 4;
  return short.map((value) => {
    if (value !== 0xffffffff) return value;
    if (at + 8 > end) throw damaged(file, where, { rule: "Sizes from 4 GB on stand in a zip64 field", got: "none" });
    at += 8;
    return Number(view.getBigUint64(at - 8, true));
  }) as [number, number, number];
}

/** No bytes belong to two entries: files that share them unpack to much more than they are. */
function inPlace(
  found: readonly Omit<ZipEntry, "limit">[],
  directory: number,
  file: string,
): ReadonlyMap<string, ZipEntry> {
  const order = [...found].sort((a, b) => a.at - b.at);
  const limits = new Map(order.map((entry, i) => [entry, order[i + 1]?.at ?? directory]));
  const entries = new Map<string, ZipEntry>();
  for (const entry of found) {
    const where = `entry ${JSON.stringify(entry.name)}`;
    const limit = limits.get(entry)!;
    if (entry.at + LOCAL_SIZE + entry.packed > limit) {
      const got = `${entry.packed} bytes from byte ${entry.at}, where byte ${limit} begins another part`;
      throw damaged(file, where, { rule: "Entries lie before the directory and share no bytes", got });
    }
    if (entries.has(entry.name)) throw damaged(file, where, { rule: "Each name is there once", got: "it twice" });
    entries.set(entry.name, { ...entry, limit });
  }
  return entries;
}
