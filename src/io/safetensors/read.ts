import type { Tensor } from "../../autograd/index.js";
import { elementTypes } from "../elements.js";
import { type Contents, load, open } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import type { LaterInput, NowInput } from "../source/open.js";
import { type Reading, readPart } from "../source/reading.js";
import type { FileTensor, TensorFile } from "../tensor_file.js";
import { readHeader } from "./header.js";

/**
 * The tensors of a safetensors file by name: F64 as float64, F32, F16 and BF16 as float32, whole numbers and booleans as int32.
 * From bytes or a path at once; from a Blob, URL or Response as a promise. Throws FormatError for a file that breaks a rule of
 * the format, or for whole numbers beyond int32.
 */
export function loadSafetensors(input: NowInput): Record<string, Tensor>;
export function loadSafetensors(input: LaterInput): Promise<Record<string, Tensor>>;
export function loadSafetensors(
  input: NowInput | LaterInput,
): Record<string, Tensor> | Promise<Record<string, Tensor>> {
  return load(input as NowInput, safetensorsContents);
}

/**
 * Opens a safetensors file whose tensors are read one at a time, when they are asked for: a file of 4 GB needs memory for its largest
 * tensor alone. Close it afterwards. Throws FormatError as loadSafetensors does.
 */
export function openSafetensors(input: NowInput | LaterInput): Promise<TensorFile> {
  return open(input, safetensorsContents);
}

export function* safetensorsContents(source: ByteSource): Reading<Contents> {
  const { tensors, metadata } = yield* readHeader(source);
  function* read(name: string): Reading<FileTensor> {
    const { shape, type, from, to } = tensors.get(name)!;
    const bytes = yield* readPart(source, from, to);
    return { shape, type, data: elementTypes[type].decode(bytes, source.name, `tensor ${JSON.stringify(name)}`) };
  }
  return { format: "safetensors", tensors, metadata, read };
}
