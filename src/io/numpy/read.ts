import type { Tensor } from "../../autograd/index.js";
import { damaged } from "../damage.js";
import { elementTypes } from "../elements.js";
import { type Contents, load, open } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import { isNow, type LaterInput, type NowInput } from "../source/open.js";
import { type Reading, readPart } from "../source/reading.js";
import { columnMajorStrides, rowMajor } from "../strided.js";
import type { FileTensor, TensorFile } from "../tensor_file.js";
import { readDirectory } from "../zip/directory.js";
import { entryBytes, entryHead } from "../zip/entry.js";
import { LONGEST_HEAD, type NpyHeader, parseNpyHeader } from "./header.js";

/**
 * The array of an .npy file: float64 as it is, shorter floats as float32, whole numbers and booleans as int32. From bytes or a path
 * at once; from a Blob, URL or Response as a promise. Throws FormatError for files that are wrong, for arrays of other things
 * than numbers (those of objects are pickles, which are never executed), and for whole numbers beyond int32.
 */
export function loadNpy(input: NowInput): Tensor;
export function loadNpy(input: LaterInput): Promise<Tensor>;
export function loadNpy(input: NowInput | LaterInput): Tensor | Promise<Tensor> {
  if (isNow(input)) return load(input, npyContents)[ONLY]!;
  return load(input, npyContents).then((tensors) => tensors[ONLY]!);
}

/** The arrays of an .npz file by name, without ".npy"; as loadNpy for each. Throws FormatError also for a damaged zip file. */
export function loadNpz(input: NowInput): Record<string, Tensor>;
export function loadNpz(input: LaterInput): Promise<Record<string, Tensor>>;
export function loadNpz(input: NowInput | LaterInput): Record<string, Tensor> | Promise<Record<string, Tensor>> {
  return load(input as NowInput, npzContents);
}

/** Opens an .npz file whose arrays are unpacked one at a time, when they are asked for. Close it afterwards. */
export function openNpz(input: NowInput | LaterInput): Promise<TensorFile> {
  return open(input, npzContents);
}

/** The name of an array that has none. */
const ONLY = "array";

/** Most headers take 128 bytes. */
const USUAL_HEAD = 128;

function* npyContents(source: ByteSource): Reading<Contents> {
  const { name: file, size } = source;
  const head = yield* readPart(source, 0, Math.min(size, LONGEST_HEAD));
  const header = parseNpyHeader(head, size, file, "byte 0");
  function* read(): Reading<FileTensor> {
    const bytes = yield* readPart(source, header.start, size);
    return arrayOf(header, bytes, file, `byte ${header.start}`);
  }
  return { format: "npy", tensors: new Map([[ONLY, header]]), metadata: new Map(), read };
}

function* npzContents(source: ByteSource): Reading<Contents> {
  const file = source.name;
  const entries = yield* readDirectory(source);
  const headers = new Map<string, NpyHeader>();
  for (const entry of entries.values()) {
    const where = `entry ${JSON.stringify(entry.name)}`;
    if (!entry.name.endsWith(SUFFIX)) {
      const fix = "It may be a zip file of something else";
      throw damaged(file, where, { rule: "An npz file holds .npy files", got: "another", fix });
    }
    let head = yield* entryHead(source, entry, USUAL_HEAD);
    // Its length stands in the first 12 bytes; a wrong one is found by who reads the header.
    if (head.length === USUAL_HEAD && headLength(head) > USUAL_HEAD)
      head = yield* entryHead(source, entry, LONGEST_HEAD);
    headers.set(entry.name.slice(0, -SUFFIX.length), parseNpyHeader(head, entry.size, file, where));
  }
  function* read(name: string): Reading<FileTensor> {
    const header = headers.get(name)!;
    const entry = entries.get(name + SUFFIX)!;
    const bytes = yield* entryBytes(source, entry);
    return arrayOf(header, bytes.subarray(header.start), file, `entry ${JSON.stringify(entry.name)}`);
  }
  return { format: "npz", tensors: headers, metadata: new Map(), read };
}

const SUFFIX = ".npy";

const headLength = (head: Uint8Array): number =>
  head[6] === 1 ? 10 + head[8]! + 256 * head[9]! : 12 + new DataView(head.buffer, head.byteOffset).getUint32(8, true);

function arrayOf(
  { shape, type, bigEndian, fortran }: NpyHeader,
  bytes: Uint8Array,
  file: string,
  at: string,
): FileTensor {
  const element = elementTypes[type];
  const data = element.decode(bigEndian ? swapped(bytes, element.bytes) : bytes, file, at);
  return { shape, type, data: fortran ? rowMajor(data, shape, columnMajorStrides(shape)) : data };
}

/** The bytes of each element in reverse. */
export function swapped(bytes: Uint8Array, width: number): Uint8Array {
  const result = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i += width) {
    for (let k = 0; k < width; k++) result[i + k] = bytes[i + width - 1 - k]!;
  }
  return result;
}
