import { writeFile } from "#files";
import { describeValue, OptionError } from "../../base/errors.js";
import { checkPositiveInteger, readOptions } from "../../base/options.js";
import { joined } from "../joined.js";
import {
  checkPath,
  type ElementTypes,
  elementTypeOptions,
  type TensorsToWrite,
  type TensorToWrite,
  tensorsToWrite,
} from "../tensors_to_write.js";
import { LONGEST_HEADER, METADATA, typeCodes } from "./header.js";
import { saveShards } from "./write_shards.js";

export interface SafetensorsOptions extends ElementTypes {
  /** Strings that readers give back beside the tensors ({ format: "pt" } is what transformers look for). */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The most bytes of numbers in one file: a larger state is written as several, with an index beside them. Needs a path. */
  readonly maxShardSize?: number;
}

/**
 * Writes tensors by name as a safetensors file: float64 as F64, float32 as F32, int32 as I32, or as `dtype` and `dtypes` say. Without
 * a path it returns the bytes; with one it writes the file, whole or not at all, and returns its size in bytes. With `maxShardSize`
 * a large state at "model.safetensors" becomes model-00001-of-00003.safetensors and so on, and model.safetensors.index.json, which
 * is written last and is what to load; the size is then that of all.
 * Throws OptionError, DeviceError for tensors that are not on the CPU, FormatError for numbers that a type cannot hold, FileError.
 */
export function saveSafetensors(tensors: TensorsToWrite, path?: undefined, options?: SafetensorsOptions): Uint8Array;
export function saveSafetensors(tensors: TensorsToWrite, path: string, options?: SafetensorsOptions): number;
export function saveSafetensors(
  tensors: TensorsToWrite,
  path?: string,
  options?: SafetensorsOptions,
): Uint8Array | number {
  const { metadata, maxShardSize, ...types } = readOptions("saveSafetensors", options, {
    ...elementTypeOptions,
    metadata: undefined as SafetensorsOptions["metadata"],
    maxShardSize: undefined as number | undefined,
  });
  const list = tensorsToWrite("saveSafetensors", tensors, types);
  checkPath("saveSafetensors", path);
  const notes = checkMetadata(metadata);
  if (maxShardSize !== undefined) {
    checkPositiveInteger("maxShardSize", maxShardSize);
    return saveShards(list, path, maxShardSize, (shard, to) => writeFile(to, fileOf(shard, notes).pieces));
  }
  const { size, pieces } = fileOf(list, notes);
  return path === undefined ? joined(pieces, size) : writeFile(path, pieces);
}

/** The size of a file and its parts, made one after the other. */
function fileOf(
  list: readonly TensorToWrite[],
  metadata: readonly [string, string][],
): { size: number; pieces: Iterable<Uint8Array> } {
  const ordered = inOrder(list);
  const first = header(ordered, metadata);
  return { size: list.reduce((n, { size }) => n + size, first.length), pieces: piecesOf(first, ordered) };
}

function* piecesOf(first: Uint8Array, list: readonly TensorToWrite[]): Generator<Uint8Array> {
  yield first;
  for (const tensor of list) yield tensor.bytes();
}

const places = Object.keys(typeCodes);

/** By type, then by name in the order of its UTF-8 (which is that of code points, and not of JavaScript's strings). */
function inOrder(list: readonly TensorToWrite[]): TensorToWrite[] {
  const utf8 = new TextEncoder();
  const keyed = list.map((tensor) => ({ tensor, place: places.indexOf(tensor.type), name: utf8.encode(tensor.name) }));
  return keyed.sort((a, b) => a.place - b.place || compareBytes(a.name, b.name)).map(({ tensor }) => tensor);
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/** The header's length and the header, with spaces so that the numbers begin at a multiple of 8. */
function header(list: readonly TensorToWrite[], metadata: readonly [string, string][]): Uint8Array {
  let at = 0;
  const entries = list.map(({ name, shape, type, size }): [string, unknown] => {
    if (name === METADATA) {
      throw new OptionError({
        rule: "A tensor has a name that the format leaves free",
        got: METADATA,
        fix: "Rename it",
      });
    }
    const begin = at;
    at += size;
    return [name, { dtype: typeCodes[type], shape, data_offsets: [begin, at] }];
  });
  // By hand, since an object would put names that look like whole numbers first.
  const all: [string, unknown][] =
    metadata.length > 0 ? [[METADATA, Object.fromEntries(metadata)], ...entries] : entries;
  const text = `{${all.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
  const json = new TextEncoder().encode(text);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > LONGEST_HEADER) {
    throw new OptionError({
      rule: `The header has at most ${LONGEST_HEADER} bytes`,
      got: `${length}`,
      fix: "Write several files",
    });
  }
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

function checkMetadata(metadata: unknown): [string, string][] {
  if (metadata === undefined) return [];
  const entries = metadata !== null && typeof metadata === "object" ? Object.entries(metadata) : [["", metadata]];
  for (const [key, value] of entries) {
    if (typeof value === "string") continue;
    const fix = "Write numbers and objects as text, JSON.stringify(value)";
    throw new OptionError({
      rule: "metadata is an object of strings",
      got: `${key || "metadata"}: ${describeValue(value)}`,
      fix,
    });
  }
  return entries as [string, string][];
}
