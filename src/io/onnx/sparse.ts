import { damaged, elementsWithin } from "../damage.js";
import type { SparseTensor } from "./proto/onnx_pb.js";
import { type ExternalBytes, type OnnxTensor, readTensor } from "./tensor_proto.js";

/** Zeros that one stored number may stand for, so that a small file makes no large array; and how many any file may have. */
const ZEROS_EACH = 1024;
const ZEROS_FREE = 65536;

/**
 * A sparse tensor with its zeros. Indices are places in the dense tensor [n], or coordinates [n, rank]; they rise, each coming once.
 * Throws FormatError for other indices, and for shapes far beyond the numbers that are stored.
 */
export function readSparse(proto: SparseTensor, file: string, at: string, external?: ExternalBytes): OnnxTensor {
  if (!proto.values || !proto.indices) {
    throw damaged(file, at, { rule: "A sparse tensor has values and indices", got: "one of them missing" });
  }
  const values = readTensor(proto.values, file, `${at}, values`, external);
  const indices = readTensor(proto.indices, file, `${at}, indices`, external);
  const shape = proto.dims.map(Number);
  const count = values.data.length;
  const size = elementsWithin(shape, ZEROS_FREE + ZEROS_EACH * count, file, at);
  const tuple = indices.shape.length === 2 ? shape.length : 1;
  const lengths = indices.shape.length === 2 ? [count, tuple] : [count];
  if (indices.type !== "int64" || lengths.some((d, i) => d !== indices.shape[i]) || values.shape.length !== 1) {
    const got = `${indices.type} [${indices.shape.join(", ")}] for values [${values.shape.join(", ")}]`;
    throw damaged(file, at, { rule: `Indices are int64 of shape [${lengths.join(", ")}]`, got });
  }
  const Kind = values.data.constructor as new (length: number) => typeof values.data;
  const data = new Kind(size);
  let before = -1;
  for (let i = 0; i < count; i++) {
    const place = placeOf(indices.data.subarray(i * tuple, (i + 1) * tuple), tuple === 1 ? [size] : shape);
    if (place <= before) {
      const got = `[${indices.data.slice(i * tuple, (i + 1) * tuple).join(", ")}] as number ${i}`;
      throw damaged(file, at, { rule: `Indices rise and lie inside of [${shape.join(", ")}]`, got });
    }
    data[place] = values.data[i]!;
    before = place;
  }
  return { shape, type: values.type, data };
}

/** -1 for one that lies outside. */
function placeOf(coordinates: ArrayLike<number>, shape: readonly number[]): number {
  let place = 0;
  for (const [i, length] of shape.entries()) {
    const c = coordinates[i]!;
    if (!(c >= 0 && c < length)) return -1;
    place = place * length + c;
  }
  return place;
}
