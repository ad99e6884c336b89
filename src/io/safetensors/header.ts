import { damaged, elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import type { ByteSource } from "../source/byte_source.js";
import { type Reading, readPart } from "../source/reading.js";
import type { TensorInfo } from "../tensor_file.js";
import { type Json, parseStrictJson } from "./strict_json.js";

/**
 * The element types of the format by the names it has for them, in the order in which the reference implementation writes them:
 * those of the largest alignment first, so that every tensor is aligned.
 */
export const typeCodes = {
  uint64: "U64",
  int64: "I64",
  float64: "F64",
  float32: "F32",
  uint32: "U32",
  int32: "I32",
  bfloat16: "BF16",
  float16: "F16",
  uint16: "U16",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
} as const satisfies Record<ElementName, string>;

const typesByCode = new Map(Object.entries(typeCodes).map(([type, code]) => [code as string, type as ElementName]));

/** What the reference implementation allows, in bytes. */
export const LONGEST_HEADER = 100_000_000;

export const METADATA = "__metadata__";

/** A tensor's place in the file. */
export interface PlacedTensor extends TensorInfo {
  readonly from: number;
  readonly to: number;
}

export interface Header {
  readonly tensors: ReadonlyMap<string, PlacedTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * The header of a safetensors file (github.com/huggingface/safetensors, "Format"): 8 bytes with the length of the header, the header
 * in JSON, then the numbers of all tensors without holes. Throws FormatError for anything else.
 */
export function* readHeader(source: ByteSource): Reading<Header> {
  const { name: file, size } = source;
  if (size < 8) {
    const fix = "It is cut short, or not a safetensors file";
    throw damaged(file, 0, {
      rule: "A safetensors file begins with 8 bytes for the header's length",
      got: `${size} bytes`,
      fix,
    });
  }
  const prefix = yield* readPart(source, 0, 8);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true));
  if (length > LONGEST_HEADER || length > size - 8) {
    throw damaged(file, 0, {
      rule: `A header has at most ${LONGEST_HEADER} bytes and lies within the file`,
      got: `a length of ${length} in a file of ${size} bytes`,
      fix: "The file is cut short, or not a safetensors file",
    });
  }
  const json = parseStrictJson(yield* readPart(source, 8, 8 + length), file, 8);
  if (!(json instanceof Map)) throw damaged(file, 8, { rule: "The header is a JSON object", got: kindOf(json) });
  const tensors = new Map<string, PlacedTensor>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of json as ReadonlyMap<string, Json>) {
    if (name === METADATA) metadata = checkMetadata(value, file);
    else tensors.set(name, placedTensor(name, value, { start: 8 + length, size, file }));
  }
  checkCover(tensors, { start: 8 + length, size, file });
  return { tensors, metadata };
}

interface Room {
  /** Where the numbers begin. */
  readonly start: number;
  readonly size: number;
  readonly file: string;
}

function placedTensor(name: string, value: Json, { start, size, file }: Room): PlacedTensor {
  const at = `tensor ${JSON.stringify(name)}`;
  const rule = "A tensor has a dtype, a shape and data_offsets";
  if (!(value instanceof Map)) throw damaged(file, at, { rule, got: kindOf(value) });
  const code = value.get("dtype");
  const type = typeof code === "string" ? typesByCode.get(code) : undefined;
  if (type === undefined) {
    throw damaged(file, at, {
      rule: `A dtype is one of ${[...typesByCode.keys()].join(", ")}`,
      got: JSON.stringify(code) ?? "none",
      fix: "Convert the tensor before it is saved",
    });
  }
  const shape = value.get("shape");
  if (!Array.isArray(shape)) throw damaged(file, at, { rule, got: `a shape that is ${kindOf(shape)}` });
  const offsets = value.get("data_offsets");
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? (offsets as [unknown, unknown]) : [];
  if (!isOffset(begin) || !isOffset(end) || begin > end || end > size - start) {
    throw damaged(file, at, {
      rule: `data_offsets are two places in order within the ${size - start} bytes after the header`,
      got: Array.isArray(offsets) ? `[${offsets.join(", ")}]` : kindOf(offsets),
      fix: "The file is cut short or damaged",
    });
  }
  const { bytes } = elementTypes[type];
  const elements = elementsWithin(shape, (end - begin) / bytes, file, at);
  if (elements * bytes !== end - begin) {
    const got = `${end - begin} bytes for ${elements} of type ${code}`;
    throw damaged(file, at, { rule: "data_offsets hold as many bytes as shape and dtype need", got });
  }
  return { shape: shape as readonly number[], type, from: start + begin, to: start + end };
}

const isOffset = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** The numbers fill what follows the header, each byte belonging to one tensor: nothing is hidden and nothing shared. */
function checkCover(tensors: ReadonlyMap<string, PlacedTensor>, { start, size, file }: Room): void {
  const rule = "Tensors fill the bytes after the header without holes or overlaps";
  let place = start;
  for (const [name, { from, to }] of [...tensors].sort(([, a], [, b]) => a.from - b.from || a.to - b.to)) {
    if (from !== place) {
      const got = `a ${from < place ? "tensor that begins before the end of another" : `hole of ${from - place} bytes`}`;
      throw damaged(file, `tensor ${JSON.stringify(name)} at byte ${from}`, { rule, got });
    }
    place = to;
  }
  if (place !== size) throw damaged(file, place, { rule, got: `${size - place} bytes after the last tensor` });
}

function checkMetadata(value: Json, file: string): ReadonlyMap<string, string> {
  const rule = `${METADATA} is an object of strings`;
  if (!(value instanceof Map)) throw damaged(file, METADATA, { rule, got: kindOf(value) });
  for (const [key, entry] of value) {
    if (typeof entry !== "string")
      throw damaged(file, `${METADATA} ${JSON.stringify(key)}`, { rule, got: kindOf(entry) });
  }
  return value as ReadonlyMap<string, string>;
}

function kindOf(value: unknown): string {
  if (value === undefined || value === null) return String(value ?? "nothing");
  if (value instanceof Map) return "an object";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
