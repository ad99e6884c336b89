import { createHash } from "node:crypto";
import { bytesPerElement, type DType, type NumberArray } from "../../base/dtype.js";
import { FormatError } from "../../base/errors.js";
import { numberOfElements, type Shape } from "../../base/shape.js";

/**
 * A checkpoint file, all numbers little-endian:
 *   8 bytes   "EVKLCKPT"
 *   4 bytes   version of the format, 1
 *   4 bytes   length of the header in bytes
 *   header    JSON in UTF-8: { meta, arrays: [{ name, dtype, shape, offset, bytes }] }, filled up with spaces to 8 bytes
 *   arrays    raw elements; offsets count from the end of the header and are multiples of 8
 *   32 bytes  SHA-256 of everything before
 */
const MAGIC = Buffer.from("EVKLCKPT", "latin1");
const VERSION = 1;
const PREFIX = MAGIC.length + 8;
const DIGEST = 32;

export interface NamedArray {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: NumberArray;
}

export interface CheckpointContent {
  /** Anything that JSON can hold. */
  readonly meta: unknown;
  readonly arrays: readonly NamedArray[];
}

interface ArrayEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: number[];
  readonly offset: number;
  readonly bytes: number;
}

const roundUp = (n: number): number => Math.ceil(n / 8) * 8;

/** The file's bytes in pieces, the arrays uncopied, so that saving needs no second copy of the model. */
export function encodeCheckpoint({ meta, arrays }: CheckpointContent): Uint8Array[] {
  let offset = 0;
  const entries = arrays.map(({ name, dtype, shape, data }): ArrayEntry => {
    const entry = { name, dtype, shape: [...shape], offset, bytes: data.byteLength };
    offset += roundUp(data.byteLength);
    return entry;
  });
  const json = Buffer.from(JSON.stringify({ meta, arrays: entries }), "utf8");
  const header = Buffer.alloc(roundUp(json.length), " ");
  json.copy(header);
  const prefix = Buffer.alloc(PREFIX);
  MAGIC.copy(prefix);
  prefix.writeUInt32LE(VERSION, MAGIC.length);
  prefix.writeUInt32LE(header.length, MAGIC.length + 4);

  const pieces: Uint8Array[] = [prefix, header];
  for (const { data } of arrays) {
    pieces.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    const gap = roundUp(data.byteLength) - data.byteLength;
    if (gap > 0) pieces.push(new Uint8Array(gap));
  }
  pieces.push(digestOf(pieces));
  return pieces;
}

/** A hash takes less than 2 GiB at once. */
const LARGEST_UPDATE = 2 ** 30;

function digestOf(pieces: readonly Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += LARGEST_UPDATE) hash.update(piece.subarray(at, at + LARGEST_UPDATE));
  }
  return hash.digest();
}

/** What is wrong with a file that should be a checkpoint, or null where it is just as it was written. */
export function damageOf(bytes: Uint8Array, path: string): FormatError | null {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length < PREFIX || !file.subarray(0, MAGIC.length).equals(MAGIC)) {
    const got =
      file.length === 0 ? `${path}, which is empty` : `${path}, which begins with ${printable(file.subarray(0, 8))}`;
    return new FormatError({
      rule: "An Evenkeel checkpoint begins with EVKLCKPT",
      got,
      fix: "Name a file that saveCheckpoint wrote",
    });
  }
  const body = withoutDigest(file);
  if (digestOf([body]).equals(file.subarray(body.length))) return null;
  return new FormatError({
    rule: "A checkpoint ends with the SHA-256 of its contents",
    got: `${path} (${file.length} bytes), where they differ: the file is cut short or damaged`,
    fix: "Use an older checkpoint",
  });
}

const withoutDigest = (file: Buffer): Buffer => file.subarray(0, Math.max(0, file.length - DIGEST));

/** Reads a checkpoint's bytes. Throws FormatError when they are of another kind, cut short or damaged. */
export function decodeCheckpoint(bytes: Uint8Array, path: string): CheckpointContent {
  // Damage first: the version may be what is damaged.
  const damage = damageOf(bytes, path);
  if (damage) throw damage;
  return contentOf(bytes, path);
}

/** What is in bytes of which damageOf said nothing. Throws FormatError when another release wrote them. */
export function contentOf(bytes: Uint8Array, path: string): CheckpointContent {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = file.readUInt32LE(MAGIC.length);
  if (version !== VERSION) {
    throw new FormatError({
      rule: `This release reads checkpoints of version ${VERSION}`,
      got: `version ${version} in ${path}`,
      fix: "Use the release that wrote it",
    });
  }
  const body = withoutDigest(file);
  const start = PREFIX + file.readUInt32LE(MAGIC.length + 4);
  const header = parseHeader(body, start, path);
  return { meta: header.meta, arrays: header.arrays.map((entry) => readArray(entry, body.subarray(start), path)) };
}

function printable(bytes: Uint8Array): string {
  return JSON.stringify(Buffer.from(bytes).toString("latin1"));
}

function parseHeader(body: Buffer, start: number, path: string): { meta: unknown; arrays: unknown[] } {
  let header: unknown = null;
  if (start <= body.length) {
    try {
      header = JSON.parse(body.toString("utf8", PREFIX, start));
    } catch {
      // Falls through to the error below.
    }
  }
  const { meta, arrays } = (header ?? {}) as { meta?: unknown; arrays?: unknown };
  if (!Array.isArray(arrays)) throw damagedHeader(path, "none");
  return { meta, arrays };
}

const damagedHeader = (path: string, got: string): FormatError =>
  new FormatError({ rule: `The header of ${path} lists arrays by name, dtype, shape and place`, got });

function readArray(value: unknown, data: Buffer, path: string): NamedArray {
  const entry = (value ?? {}) as Partial<ArrayEntry>;
  const { name, dtype, shape, offset, bytes } = entry;
  const good =
    typeof name === "string" &&
    (dtype === "float32" || dtype === "float64" || dtype === "int32") &&
    Array.isArray(shape) &&
    shape.every((d) => Number.isInteger(d) && d >= 0) &&
    Number.isInteger(offset) &&
    bytes === numberOfElements(shape) * bytesPerElement[dtype] &&
    offset! >= 0 &&
    offset! + bytes <= data.length;
  if (!good) throw damagedHeader(path, JSON.stringify(value));
  // A copy: typed arrays need an aligned start, and the caller must not hold the whole file through one array.
  const copy = new Uint8Array(data.subarray(offset!, offset! + bytes)).buffer;
  const Kind = dtype === "float32" ? Float32Array : dtype === "float64" ? Float64Array : Int32Array;
  return { name, dtype, shape, data: new Kind(copy) };
}
