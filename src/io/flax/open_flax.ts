import { damaged, elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import { joined } from "../joined.js";
import { type Contents, open } from "../load_tensors.js";
import type { ByteSource } from "../source/byte_source.js";
import type { LaterInput, NowInput } from "../source/open.js";
import { type Reading, readPart } from "../source/reading.js";
import type { FileTensor, TensorFile, TensorInfo } from "../tensor_file.js";
import { CHUNKED, COMPLEX, NDARRAY, SCALAR } from "./layout.js";
import { type MsgpackItem, MsgpackReader } from "./msgpack_reader.js";

/** Trees are not deeper, and have no more leaves, and no longer names: what is built from a file stays small. */
const DEEPEST = 64;
const MOST_LEAVES = 1_000_000;
const LONGEST_NAME = 4096;

interface PlacedTensor extends TensorInfo {
  /** Where its numbers lie; more than one place for those that Flax cuts up, which are the largest. */
  readonly parts: readonly { readonly from: number; readonly to: number }[];
}

/**
 * Opens what Flax's `serialization.to_bytes` wrote (msgpack): tensors by the keys that lead to them with "/" between,
 * "params/Conv_0/kernel"; single numbers and texts that are no arrays are in `metadata`, as text. Tensors are read when they are
 * asked for. Close it afterwards. Throws FormatError for a damaged file, and for arrays that are no numbers or complex ones.
 */
export function openFlax(input: NowInput | LaterInput): Promise<TensorFile> {
  return open(input, flaxContents);
}

function* flaxContents(source: ByteSource): Reading<Contents> {
  const tensors = new Map<string, PlacedTensor>();
  const metadata = new Map<string, string>();
  const reader = new MsgpackReader(source, 0, source.size);
  const top = yield* reader.next();
  if (top.kind !== "map") {
    throw damaged(source.name, 0, {
      rule: "A Flax checkpoint is a map",
      got: describe(top),
      fix: "Write it with to_bytes",
    });
  }
  yield* readMap(source, reader, { prefix: "", count: top.count, depth: 0 }, tensors, metadata);
  if (!reader.atEnd) {
    const got = `${source.size - reader.place} bytes more`;
    throw damaged(source.name, reader.place, { rule: "Nothing follows the checkpoint", got });
  }
  function* read(name: string): Reading<FileTensor> {
    const { shape, type, parts } = tensors.get(name)!;
    const pieces: Uint8Array[] = [];
    for (const { from, to } of parts) pieces.push(yield* readPart(source, from, to));
    const bytes = pieces.length === 1 ? pieces[0]! : joined(pieces);
    return { shape, type, data: elementTypes[type].decode(bytes, source.name, `tensor ${JSON.stringify(name)}`) };
  }
  return { format: "flax", tensors, metadata, read };
}

interface MapPlace {
  /** What the names of its entries begin with. */
  readonly prefix: string;
  readonly count: number;
  readonly depth: number;
}

function* readMap(
  source: ByteSource,
  reader: MsgpackReader,
  { prefix, count, depth }: MapPlace,
  tensors: Map<string, PlacedTensor>,
  metadata: Map<string, string>,
): Reading<void> {
  const keys = new Set<string>();
  for (let i = 0; i < count; i++) {
    const at = reader.place;
    const key = yield* reader.next();
    if (key.kind !== "plain" || typeof key.value !== "string") {
      throw damaged(source.name, at, { rule: "The keys of a checkpoint are texts", got: describe(key) });
    }
    const path = prefix + key.value;
    if (keys.has(key.value) || tensors.has(path) || metadata.has(path)) {
      throw damaged(source.name, at, {
        rule: "Each name is there once",
        got: `${JSON.stringify(path.slice(0, 200))} twice`,
      });
    }
    keys.add(key.value);
    if (path.length > LONGEST_NAME || tensors.size + metadata.size >= MOST_LEAVES) {
      const rule = `A checkpoint has at most ${MOST_LEAVES} leaves, with names of at most ${LONGEST_NAME} characters`;
      throw damaged(source.name, at, { rule, got: "more" });
    }
    const place = reader.place;
    const item = yield* reader.next();
    if (i === 0 && prefix !== "" && key.value === CHUNKED) {
      tensors.set(prefix.slice(0, -1), yield* readChunked(source, reader, count));
      return;
    }
    if (item.kind === "map") {
      if (depth === DEEPEST)
        throw damaged(source.name, place, { rule: `Maps lie at most ${DEEPEST} deep`, got: "deeper" });
      yield* readMap(source, reader, { prefix: `${path}/`, count: item.count, depth: depth + 1 }, tensors, metadata);
    } else if (item.kind === "extension" && (item.type === NDARRAY || item.type === SCALAR)) {
      tensors.set(path, yield* readArray(source, item.from, item.to));
    } else if (item.kind === "extension" && item.type === COMPLEX) metadata.set(path, "a complex number");
    else if (item.kind === "plain") {
      if (item.value !== null) metadata.set(path, String(item.value));
    } else {
      const rule = "A checkpoint holds maps, arrays of numbers, single numbers and texts (Flax writes lists as maps)";
      throw damaged(source.name, place, { rule, got: describe(item) });
    }
  }
}

const describe = (item: MsgpackItem): string => {
  if (item.kind === "plain") return item.value === null ? "nil" : `a ${typeof item.value}`;
  return item.kind === "extension"
    ? `an extension of type ${item.type}`
    : `${item.kind === "array" ? "an" : "a"} ${item.kind}`;
};

/** An array within an extension: its shape, the name of its type, and its bytes. */
function* readArray(source: ByteSource, from: number, to: number): Reading<PlacedTensor> {
  const reader = new MsgpackReader(source, from, to);
  const rule = "An array is its shape, the name of its type and its bytes";
  const wrong = (got: string): Error => damaged(source.name, from, { rule, got });
  const outer = yield* reader.next();
  if (outer.kind !== "array" || outer.count !== 3) throw wrong(describe(outer));
  const extents = yield* reader.next();
  if (extents.kind !== "array") throw wrong(`a shape that is ${describe(extents)}`);
  if (extents.count > DEEPEST) throw wrong(`a shape of ${extents.count} extents`);
  const shape: number[] = [];
  for (let i = 0; i < extents.count; i++) {
    const extent = yield* reader.next();
    shape.push(extent.kind === "plain" && typeof extent.value !== "string" ? Number(extent.value) : Number.NaN);
  }
  const typeName = yield* reader.next();
  if (typeName.kind !== "plain" || typeof typeName.value !== "string")
    throw wrong(`a type that is ${describe(typeName)}`);
  const type = typeName.value;
  if (!Object.hasOwn(elementTypes, type)) {
    const known = Object.keys(elementTypes).join(", ");
    const fix = "Convert the array before it is saved";
    throw damaged(source.name, from, { rule: `The type of an array is one of ${known}`, got: type.slice(0, 100), fix });
  }
  const numbers = yield* reader.next();
  if (numbers.kind !== "bytes" || !reader.atEnd) throw wrong(`${describe(numbers)} instead of bytes at its end`);
  const { bytes } = elementTypes[type as ElementName];
  const length = numbers.to - numbers.from;
  if (elementsWithin(shape, length / bytes, source.name, from) * bytes !== length) {
    throw wrong(`${length} bytes for [${shape.join(", ")}] of ${type}`);
  }
  return { shape, type: type as ElementName, parts: [{ from: numbers.from, to: numbers.to }] };
}

/** An array of more than 1 GiB: after the mark a map of its extents and a map of flat arrays, both by number. */
function* readChunked(source: ByteSource, reader: MsgpackReader, count: number): Reading<PlacedTensor> {
  const rule = "An array in chunks is the mark, its shape and its chunks";
  const begin = reader.place;
  const wrong = (got: string): Error => damaged(source.name, begin, { rule, got });
  if (count !== 3) throw wrong(`${count} entries`);
  const shape: number[] = [];
  const chunks: PlacedTensor[] = [];
  for (const wanted of ["shape", "chunks"]) {
    const key = yield* reader.next();
    const list = yield* reader.next();
    if (key.kind !== "plain" || key.value !== wanted || list.kind !== "map") throw wrong(`no map named ${wanted}`);
    for (let i = 0; i < list.count; i++) {
      const number = yield* reader.next();
      if (number.kind !== "plain" || number.value !== String(i)) throw wrong(`${wanted} that is not numbered in order`);
      const item = yield* reader.next();
      if (wanted === "shape" && item.kind === "plain" && shape.length < DEEPEST) shape.push(Number(item.value));
      else if (wanted === "chunks" && item.kind === "extension" && item.type === NDARRAY) {
        if (chunks.length === MOST_LEAVES) throw wrong(`${list.count} chunks`);
        chunks.push(yield* readArray(source, item.from, item.to));
      } else throw wrong(`${describe(item)} in its ${wanted}`);
    }
  }
  const type = chunks[0]?.type;
  if (type === undefined || chunks.some((chunk) => chunk.type !== type)) throw wrong("chunks of no or several types");
  const parts = chunks.flatMap((chunk) => chunk.parts);
  const length = parts.reduce((sum, { from, to }) => sum + to - from, 0) / elementTypes[type].bytes;
  if (elementsWithin(shape, length, source.name, begin) !== length)
    throw wrong(`${length} numbers for [${shape.join(", ")}]`);
  return { shape, type, parts };
}
