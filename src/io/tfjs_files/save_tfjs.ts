import { writeFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { type ElementName, elementTypes } from "../elements.js";
import { joined } from "../joined.js";
import { type ElementTypes, type TensorsToWrite, type TensorToWrite, tensorsToWrite } from "../tensors_to_write.js";
import type { TfjsModel } from "./open_tfjs.js";

export interface TfjsOptions extends ElementTypes {
  /** The model's configuration, `modelTopology` in model.json: with it, tf.loadLayersModel loads the file. */
  readonly topology?: unknown;
}

/** As large as TF.js makes its shards: browsers keep files of this size in their cache. */
const SHARD = 4 * 2 ** 20;

/** What TF.js has of our types: numbers of type `dtype`, stored as `stored`. */
interface Written {
  readonly dtype: "float32" | "int32" | "bool";
  readonly stored: ElementName;
  readonly quantization?: { readonly dtype: "float16" };
}

const single: Written = { dtype: "float32", stored: "float32" };
const whole: Written = { dtype: "int32", stored: "int32" };
const written: Readonly<Record<ElementName, Written>> = {
  float64: single,
  float32: single,
  float16: { dtype: "float32", stored: "float16", quantization: { dtype: "float16" } },
  bfloat16: single,
  int64: whole,
  int32: whole,
  int16: whole,
  int8: whole,
  uint64: whole,
  uint32: whole,
  uint16: whole,
  uint8: whole,
  bool: { dtype: "bool", stored: "bool" },
};

/**
 * Writes tensors as TensorFlow.js keeps weights: model.json at `path` and shards of 4 MiB beside it, the shards first. Types that
 * TF.js does not have become float32 or int32; `dtype: "float16"` halves the size. Returns the number of bytes, or without a path
 * what `openTfjs` takes. Throws DeviceError, FormatError for whole numbers beyond int32, FileError.
 */
export function saveTfjs(tensors: TensorsToWrite, path?: undefined, options?: TfjsOptions): Required<TfjsModel>;
export function saveTfjs(tensors: TensorsToWrite, path: string, options?: TfjsOptions): number;
export function saveTfjs(tensors: TensorsToWrite, path?: string, options?: TfjsOptions): TfjsModel | number {
  const { topology, ...types } = readOptions("saveTfjs", options, {
    topology: undefined as unknown,
    dtype: undefined,
    dtypes: undefined,
  } as unknown as TfjsOptions);
  if (topology !== undefined && (topology === null || typeof topology !== "object")) {
    throw new OptionError({ rule: "topology is the object that model.json holds", got: String(topology) });
  }
  const list = tensorsToWrite("saveTfjs", tensors, types).map(asStored);
  const total = list.reduce((sum, tensor) => sum + tensor.size, 0);
  const count = Math.max(1, Math.ceil(total / SHARD));
  const names = Array.from({ length: count }, (_, i) => `group1-shard${i + 1}of${count}.bin`);
  const modelJson = {
    format: "layers-model",
    generatedBy: "evenkeel",
    convertedBy: null,
    ...(topology === undefined ? {} : { modelTopology: topology }),
    weightsManifest: [{ paths: names, weights: list.map(({ spec }) => spec) }],
  };
  if (path === undefined) {
    return { modelJson, weights: joined(piecesOf(list), total) };
  }
  const folder = path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
  const shards = shardsOf(piecesOf(list), total);
  let bytes = 0;
  for (const name of names) bytes += writeFile(folder + name, [shards.next().value as Uint8Array]);
  return bytes + writeFile(path, [new TextEncoder().encode(JSON.stringify(modelJson))]);
}

interface Stored {
  readonly spec: object;
  readonly size: number;
  readonly bytes: () => Uint8Array;
}

function asStored({ name, shape, type, size, bytes }: TensorToWrite): Stored {
  const { dtype, stored, quantization } = written[type];
  const spec = { name, shape, dtype, ...(quantization ? { quantization } : {}) };
  if (stored === type) return { spec, size, bytes };
  const { decode, bytes: width } = elementTypes[type];
  const again = (): Uint8Array =>
    elementTypes[stored].encode(decode(bytes(), "saveTfjs", `tensor ${JSON.stringify(name)}`));
  return { spec, size: (size / width) * elementTypes[stored].bytes, bytes: again };
}

function* piecesOf(list: readonly Stored[]): Generator<Uint8Array> {
  for (const tensor of list) yield tensor.bytes();
}

/** The same bytes in pieces of the length of a shard, and a last one of what is left: one at least. */
function* shardsOf(pieces: Iterable<Uint8Array>, total: number): Generator<Uint8Array> {
  let left = total;
  let shard = new Uint8Array(Math.min(SHARD, left));
  let filled = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + shard.length - filled);
      shard.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < shard.length) continue;
      left -= filled;
      yield shard;
      shard = new Uint8Array(Math.min(SHARD, left));
      filled = 0;
    }
  }
  if (total === 0) yield shard;
}
