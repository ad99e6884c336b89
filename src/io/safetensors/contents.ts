import { elementTypes } from "../elements.js";
import type { Contents } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import { type Reading, readPart } from "../source/reading.js";
import type { FileTensor } from "../tensor_file.js";
import { readHeader } from "./header.js";

/** The names of one safetensors file, and the way to its numbers. */
export function* safetensorsContents(source: ByteSource): Reading<Contents> {
  const { tensors, metadata } = yield* readHeader(source);
  function* read(name: string): Reading<FileTensor> {
    const { shape, type, from, to } = tensors.get(name)!;
    const bytes = yield* readPart(source, from, to);
    return { shape, type, data: elementTypes[type].decode(bytes, source.name, `tensor ${JSON.stringify(name)}`) };
  }
  return { format: "safetensors", tensors, metadata, read };
}
