import { placeOf } from "#h5";
import { StateError } from "../../base/errors.js";
import { checkNumber, readOptions } from "../../base/options.js";
import { damaged, elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import { tensorFile } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import { type LaterInput, type NowInput, openSource } from "../source/open.js";
import { type Reading, readLater, readPart } from "../source/reading.js";
import type { FileTensor, TensorInfo } from "../tensor_file.js";
import { readArchive } from "./archive.js";
import { type Hdf5, type Hdf5File, hdf5 } from "./hdf5.js";
import type { Hdf5Dataset } from "./hdf5_messages.js";
import type { KerasFile } from "./keras_file.js";
import { nameDatasets } from "./layout.js";

export interface KerasOptions {
  /** The largest tensor that is read, in bytes: 1 GiB. A compressed file of 1 MB can announce that much. */
  readonly largestTensor?: number;
}

const ZIP_SIGNATURE = [0x50, 0x4b, 0x03, 0x04];
const SIGNATURE = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];

/** The most bytes that deflate makes of one. */
const DEFLATE_GAIN = 1032;

/** The filters that are read, by HDF5's number, and names for others that files have. */
const readable = new Set([1, 2, 3]);
const filterNames: Readonly<Record<number, string>> = {
  4: "szip",
  5: "nbit",
  6: "scaleoffset",
  32000: "lzf",
  32001: "blosc",
  32004: "lz4",
  32008: "bitshuffle",
  32013: "zfp",
  32015: "zstd",
  32026: "blosc2",
};
const DEFLATE = 1;

/**
 * Opens a file of Keras: a model (.keras) or weights (.weights.h5) of Keras 3, a model or weights of Keras 1 and 2 (.h5), each from
 * bytes, a path, a Blob, a URL or a Response. Tensors are read one at a time, when they are asked for. Close it afterwards.
 * HDF5 runs in a worker of its own, where a damaged file can do no harm. Throws DeviceError without h5wasm
 * (npm install h5wasm), FormatError for a file that is not of this kind or damaged.
 */
export async function openKeras(input: NowInput | LaterInput, options?: KerasOptions): Promise<KerasFile> {
  return openKerasWith(hdf5, input, options);
}

/** The same on a worker of the caller's. */
export async function openKerasWith(
  worker: Hdf5,
  input: NowInput | LaterInput,
  options?: KerasOptions,
): Promise<KerasFile> {
  const { largestTensor } = readOptions("openKeras", options, { largestTensor: 2 ** 30 });
  checkNumber("largestTensor", largestTensor, "a number of bytes", (bytes) => bytes >= 0);
  const source = await openSource(input);
  try {
    const start = await source.read(0, Math.min(SIGNATURE.length, source.size));
    const begins = (signature: readonly number[]): boolean => signature.every((byte, i) => start[i] === byte);
    const file = { name: source.name, size: source.size, open: null };
    if (begins(ZIP_SIGNATURE)) {
      const { config, metadata, weights } = await readLater(readArchive(source));
      const inside = { ...file, size: weights.length, place: { bytes: alone(weights) } };
      return await openHdf5(worker, inside, { config, metadata, largestTensor });
    }
    if (!begins(SIGNATURE)) {
      const got = `${source.size} bytes that begin otherwise`;
      throw damaged(source.name, 0, {
        rule: "An HDF5 file begins with its signature, a .keras file with that of zip",
        got,
      });
    }
    const place = placeOf(input) ?? { bytes: alone(await source.read(0, source.size)) };
    return await openHdf5(worker, { ...file, place }, { config: null, metadata: new Map(), largestTensor });
  } finally {
    source.close();
  }
}

/** A copy, unless it fills its buffer: what is sent to the worker is the whole buffer under it. */
const alone = (bytes: Uint8Array): Uint8Array => (bytes.length === bytes.buffer.byteLength ? bytes : bytes.slice());

interface Around {
  /** What a .keras file says of the weights within; null without one. */
  readonly config: unknown;
  readonly metadata: ReadonlyMap<string, string>;
  readonly largestTensor: number;
}

async function openHdf5(worker: Hdf5, file: Hdf5File, around: Around): Promise<KerasFile> {
  const listing = await worker.list(file);
  try {
    let open = true;
    const named = nameDatasets(listing, around.config, file.name);
    const skipped = new Map(listing.links.map(([path, kind]) => [path.slice(1), kind]));
    const tensors = new Map<string, TensorInfo>();
    for (const [name, dataset] of named.datasets) {
      const type = typeOf(dataset);
      if (dataset.shape !== null && type !== null)
        tensors.set(name, announced(dataset, type, file, around.largestTensor));
      else skipped.set(name, dataset.shape === null ? "no numbers" : "no numbers but texts or other things");
    }
    const text = (name: string): [string, string][] => {
      const found = listing.attributes.find(([, attribute]) => attribute === name)?.[2][0];
      return found === undefined ? [] : [[name, found]];
    };
    const metadata = new Map([...around.metadata, ...text("keras_version"), ...text("backend")]);
    function* read(name: string): Reading<FileTensor> {
      const { shape, type } = tensors.get(name)!;
      if (!open)
        throw new StateError({ rule: "A file is read before it is closed", got: file.name, fix: "Open it again" });
      const source = datasetSource(worker, file, named.datasets.get(name)!);
      const bytes = yield* readPart(source, 0, source.size);
      return { shape, type, data: elementTypes[type].decode(bytes, file.name, `tensor ${JSON.stringify(name)}`) };
    }
    const { layout, variables } = named;
    const close = (): void => {
      open = false;
      void worker.close(file);
    };
    const base = tensorFile({ format: "keras", tensors, metadata, read }, file.name, close);
    return { ...base, format: "keras", layout, config: named.config, variables, skipped };
  } catch (error) {
    await worker.close(file);
    throw error;
  }
}

/** The numbers of a dataset as bytes of their own, which are there when they are read. */
function datasetSource(worker: Hdf5, file: Hdf5File, dataset: Hdf5Dataset): ByteSource {
  const { path, elementBytes, virtual, filters } = dataset;
  const size = dataset.shape!.reduce((product, extent) => product * extent, elementBytes);
  const read = async (): Promise<Uint8Array> => {
    const strange = filters.find((filter) => !readable.has(filter));
    if (virtual || strange !== undefined) {
      throw damaged(file.name, path, {
        rule: "Numbers are read where they lie in the file itself, as they are or by gzip, shuffle and fletcher32",
        got: virtual ? "a virtual dataset" : `the filter ${filterNames[strange!] ?? strange}`,
        fix: "Write the file anew without it",
      });
    }
    return size === 0 ? new Uint8Array(0) : worker.read(file, path, size);
  };
  return { name: file.name, size, read, close() {} };
}

/** The type of a dataset's elements, or null for what are no numbers. */
function typeOf({ kind, elementBytes, signed, note }: Hdf5Dataset): ElementName | null {
  const bits = elementBytes * 8;
  if (note === "bfloat16" && bits === 16) return "bfloat16";
  if (kind === 0 && [8, 16, 32, 64].includes(bits)) return `${signed ? "" : "u"}int${bits}` as ElementName;
  if (kind === 1 && [16, 32, 64].includes(bits)) return `float${bits}` as ElementName;
  // numpy's booleans are an enumeration of FALSE and TRUE.
  return kind === 8 && bits === 8 ? "bool" : null;
}

/** What a dataset announces, once it is clear that the file can hold that much and that the caller takes it. */
function announced(dataset: Hdf5Dataset, type: ElementName, file: Hdf5File, largestTensor: number): TensorInfo {
  const shape = dataset.shape!;
  const gain = dataset.chunked && dataset.filters.includes(DEFLATE) ? DEFLATE_GAIN : 1;
  const room = Math.floor(Math.min(file.size * gain, largestTensor) / dataset.elementBytes);
  elementsWithin(shape, room, file.name, dataset.path);
  return { shape, type };
}
