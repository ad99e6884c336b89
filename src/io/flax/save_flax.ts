import { writeFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { elementTypes } from "../elements.js";
import { joined } from "../joined.js";
import { type ElementTypes, type TensorsToWrite, type TensorToWrite, tensorsToWrite } from "../tensors_to_write.js";
import { CHUNKED, NDARRAY } from "./layout.js";

/** Flax cuts longer arrays up, since a msgpack value holds less than 2^31 bytes. */
const LARGEST_CHUNK = 2 ** 30;

type Branch = Map<string, Branch | TensorToWrite>;

/**
 * Writes tensors as Flax's `serialization.to_bytes` does, for `msgpack_restore` and `from_bytes`: "params/Dense_0/kernel" becomes a
 * map in a map in a map. Without a path it returns the bytes; with one it writes the file, whole or not at all, and returns its size.
 * Throws OptionError for a name that is also the beginning of another, DeviceError, FormatError, FileError.
 */
export function saveFlax(tensors: TensorsToWrite, path?: undefined, options?: ElementTypes): Uint8Array;
export function saveFlax(tensors: TensorsToWrite, path: string, options?: ElementTypes): number;
export function saveFlax(tensors: TensorsToWrite, path?: string, options?: ElementTypes): Uint8Array | number {
  const types = readOptions("saveFlax", options, { dtype: undefined, dtypes: undefined } as unknown as ElementTypes);
  const pieces = flaxPieces(tensorsToWrite("saveFlax", tensors, types), LARGEST_CHUNK);
  return path === undefined ? joined(pieces) : writeFile(path, pieces);
}

export function flaxPieces(list: readonly TensorToWrite[], largestChunk: number): Generator<Uint8Array> {
  const root: Branch = new Map();
  for (const tensor of list) {
    const keys = tensor.name.split("/");
    const last = keys.pop()!;
    let branch = root;
    for (const key of keys) {
      const next = branch.get(key) ?? new Map();
      if (!(next instanceof Map)) throw taken(tensor.name);
      branch.set(key, next);
      branch = next;
    }
    if (branch.has(last)) throw taken(tensor.name);
    branch.set(last, tensor);
  }
  return branchPieces(root, largestChunk);
}

const taken = (name: string): OptionError =>
  new OptionError({
    rule: "Names become maps within maps, so that no name is the beginning of another up to a /",
    got: JSON.stringify(name),
    fix: "Rename it",
  });

function* branchPieces(branch: Branch, largestChunk: number): Generator<Uint8Array> {
  yield mapHead(branch.size);
  for (const [key, value] of branch) {
    yield text(key);
    if (value instanceof Map) yield* branchPieces(value, largestChunk);
    else yield* tensorPieces(value, largestChunk);
  }
}

function* tensorPieces({ shape, type, size, bytes }: TensorToWrite, largestChunk: number): Generator<Uint8Array> {
  const numbers = bytes();
  if (size <= largestChunk) {
    yield* arrayPieces(shape, type, numbers);
    return;
  }
  const width = elementTypes[type].bytes;
  const step = Math.max(1, Math.floor(largestChunk / width)) * width;
  yield mapHead(3);
  yield text(CHUNKED);
  yield Uint8Array.of(0xc3);
  yield text("shape");
  yield mapHead(shape.length);
  for (const [i, extent] of shape.entries()) yield joined([text(String(i)), wholeNumber(extent)]);
  yield text("chunks");
  yield mapHead(Math.ceil(size / step));
  for (let at = 0, i = 0; at < size; at += step, i++) {
    yield text(String(i));
    const part = numbers.subarray(at, at + step);
    yield* arrayPieces([part.length / width], type, part);
  }
}

/** An extension that holds msgpack in turn: [shape, type, bytes]. */
function* arrayPieces(shape: readonly number[], type: string, numbers: Uint8Array): Generator<Uint8Array> {
  const extents = joined([head(0x90, 16, [null, 0xdc, 0xdd], shape.length), ...shape.map(wholeNumber)]);
  const inside = joined([Uint8Array.of(0x93), extents, text(type), head(0, 0, [0xc4, 0xc5, 0xc6], numbers.length)]);
  const length = inside.length + numbers.length;
  yield joined([head(0, 0, [0xc7, 0xc8, 0xc9], length), Uint8Array.of(NDARRAY), inside]);
  yield numbers;
}

const mapHead = (count: number): Uint8Array => head(0x80, 16, [null, 0xde, 0xdf], count);

function text(value: string): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return joined([head(0xa0, 32, [0xd9, 0xda, 0xdb], bytes.length), bytes]);
}

const wholeNumber = (value: number): Uint8Array =>
  value < 2 ** 32 ? head(0, 128, [0xcc, 0xcd, 0xce], value) : joined([Uint8Array.of(0xcf), bigEndian(value, 8)]);

/** A code with a count in it where that is below `small`, else the code for a count of 1, 2 or 4 bytes behind it. */
function head(code: number, small: number, wide: readonly [number | null, number, number], count: number): Uint8Array {
  if (count < small) return Uint8Array.of(code | count);
  if (count < 2 ** 8 && wide[0] !== null) return Uint8Array.of(wide[0], count);
  const width = count < 2 ** 16 ? 2 : 4;
  return joined([Uint8Array.of(wide[width === 2 ? 1 : 2]), bigEndian(count, width)]);
}

function bigEndian(value: number, width: 2 | 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value));
  return new Uint8Array(view.buffer, 8 - width);
}
