import { Inflate } from "fflate";
import { damaged } from "../damage.js";
import type { ByteSource } from "../source/byte_source.js";
import { type Reading, readPart } from "../source/reading.js";
import { crc32 } from "./crc32.js";
import { dataView, LOCAL_SIZE, type ZipEntry } from "./directory.js";

const LOCAL = 0x04034b50;

/** Packed bytes are unpacked by so many: the 4 MiB that one step can make of them are all that a lying file gets. For a head, 256 KiB. */
const STEP = 2 ** 12;
const HEAD_STEP = 2 ** 8;

const whereOf = (entry: ZipEntry): string => `entry ${JSON.stringify(entry.name)}`;

/** Where an entry's bytes begin, after a header of its own. */
function* dataStart(source: ByteSource, entry: ZipEntry): Reading<number> {
  const header = dataView(yield* readPart(source, entry.at, entry.at + LOCAL_SIZE));
  const start = entry.at + LOCAL_SIZE + header.getUint16(26, true) + header.getUint16(28, true);
  if (header.getUint32(0, true) !== LOCAL || start + entry.packed > entry.limit) {
    const rule = "An entry begins with its header and ends before the next";
    throw damaged(source.name, whereOf(entry), { rule, got: `something else at byte ${entry.at}` });
  }
  return start;
}

/** The first `length` bytes of an entry, or all where it has fewer; its check sum is not looked at. */
export function* entryHead(source: ByteSource, entry: ZipEntry, length: number): Reading<Uint8Array> {
  const start = yield* dataStart(source, entry);
  const wanted = Math.min(length, entry.size);
  if (!entry.deflated) return yield* readPart(source, start, start + wanted);
  return yield* inflate(source, entry, start, wanted);
}

/** An entry's bytes, unpacked and checked. Throws FormatError where they are not what the directory announces. */
export function* entryBytes(source: ByteSource, entry: ZipEntry): Reading<Uint8Array> {
  const start = yield* dataStart(source, entry);
  const bytes = entry.deflated
    ? yield* inflate(source, entry, start, entry.size)
    : yield* readPart(source, start, start + entry.size);
  const crc = crc32(bytes);
  if (crc === entry.crc) return bytes;
  throw damaged(source.name, whereOf(entry), {
    rule: `An entry has the check sum ${entry.crc.toString(16)}`,
    got: crc.toString(16),
    fix: "The file is damaged: copy it again",
  });
}

/** The first `wanted` bytes of a deflated entry, in memory that grows with what there is and not with what is announced. */
function* inflate(source: ByteSource, entry: ZipEntry, start: number, wanted: number): Reading<Uint8Array> {
  let out = new Uint8Array(Math.min(wanted, 4 * entry.packed));
  let length = 0;
  const wrong = (got: string, cause?: unknown): Error =>
    damaged(source.name, whereOf(entry), { rule: `A deflated entry unpacks to ${entry.size} bytes`, got }, cause);
  const inflater = new Inflate((part) => {
    if (length + part.length > entry.size) throw wrong("more");
    const used = part.length > wanted - length ? part.subarray(0, wanted - length) : part;
    if (length + used.length > out.length) {
      const larger = new Uint8Array(Math.min(wanted, Math.max(2 * out.length, length + used.length)));
      larger.set(out);
      out = larger;
    }
    out.set(used, length);
    length += used.length;
  });
  const stride = wanted < entry.size ? HEAD_STEP : STEP;
  for (let at = 0; at < entry.packed && (length < wanted || wanted === entry.size); at += stride) {
    const to = Math.min(entry.packed, at + stride);
    // The unpacker keeps parts of what it is given.
    const packed = (yield* readPart(source, start + at, start + to)).slice();
    try {
      inflater.push(packed, to === entry.packed);
    } catch (error) {
      if (error instanceof Error && "code" in error) throw wrong(`damaged data (${error.message})`, error);
      throw error;
    }
  }
  if (length !== wanted) throw wrong(`${length} bytes`);
  return out;
}
