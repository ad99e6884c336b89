import { Tensor, tensor } from "../../autograd/index.js";
import { embedding } from "../../autograd/ops/embedding.js";
import { isFloating, type NumberArray } from "../../base/dtype.js";
import { DTypeError, OutOfMemoryError, ShapeError } from "../../base/errors.js";
import { contiguousStrides, formatShape, numberOfElements, type Shape } from "../../base/shape.js";
import type { ElementName } from "../elements.js";
import { type OnnxTensor, wideTypes } from "./tensor_proto.js";

export type FloatType = "float32" | "float64" | "float16" | "bfloat16";
export type WholeType = Exclude<ElementName, FloatType>;

export const isFloatType = (type: ElementName): type is FloatType => /float/.test(type);

/**
 * Whole numbers and truth values, held by JavaScript: exact where int32 would not do (wideTypes), and at hand where shapes, axes and
 * indices are made of them.
 */
export class Whole {
  constructor(
    readonly type: WholeType,
    readonly shape: Shape,
    readonly data: Int32Array | Float64Array,
  ) {}

  get rank(): number {
    return this.shape.length;
  }

  get size(): number {
    return this.data.length;
  }
}

/** What flows along the edges of a graph: floats as tensors of the engine, all else as Whole. */
export type Value = Tensor | Whole;

/** The most elements that one array of whole numbers may have: 1 GiB of int64. */
const MOST_ELEMENTS = 2 ** 27;
/** How many elements a result may have; less while constants are computed, so that a small file makes no large arrays. */
let room = Number.POSITIVE_INFINITY;

/** Runs `body`, in which no checked result has more than `elements` elements. */
export function withRoom<T>(elements: number, body: () => T): T {
  const before = room;
  room = elements;
  try {
    return body();
  } finally {
    room = before;
  }
}

/** A shape that is larger than the inputs it comes from; throws OutOfMemoryError before anything is allocated for it. */
export function checkRoom(shape: Shape, whole = false): number {
  const size = numberOfElements(shape);
  if (!shape.every((d) => Number.isSafeInteger(d) && d >= 0)) {
    throw new ShapeError({ rule: "A shape is made of whole numbers from 0 on", got: formatShape(shape) });
  }
  // 2^32 float32 numbers are four times the reach of the heap.
  const most = Math.min(room, whole ? MOST_ELEMENTS : 2 ** 32);
  if (size <= most) return size;
  throw new OutOfMemoryError({ rule: `A result here has at most ${most} elements`, got: `${formatShape(shape)}` });
}

const limits: Readonly<Record<WholeType, readonly [number, number]>> = {
  ...{ bool: [0, 1], int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], uint16: [0, 65535] },
  ...{ int32: [-(2 ** 31), 2 ** 31 - 1], uint32: [0, 2 ** 32 - 1] },
  ...{ int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER], uint64: [0, Number.MAX_SAFE_INTEGER] },
};

export const limitsOf = (type: WholeType): readonly [number, number] => limits[type];

/** An array of zeros for whole numbers of a type and shape. */
export function wholeArray(type: WholeType, shape: Shape): Int32Array | Float64Array {
  const size = checkRoom(shape, true);
  return wideTypes.has(type) ? new Float64Array(size) : new Int32Array(size);
}

/** Whole numbers computed one by one. Throws DTypeError for one that the type does not hold exactly: nothing wraps around. */
export function computed(type: WholeType, shape: Shape, at: (i: number) => number): Whole {
  const data = wholeArray(type, shape);
  const [least, most] = limits[type];
  for (let i = 0; i < data.length; i++) {
    const value = at(i);
    if (!(value >= least && value <= most && Number.isInteger(value))) {
      throw new DTypeError({ rule: `Results of type ${type} lie in [${least}, ${most}]`, got: String(value) });
    }
    // A sum with 0 is never -0.
    data[i] = value + 0;
  }
  return new Whole(type, shape, data);
}

/** Truth values computed one by one. */
export function truth(shape: Shape, at: (i: number) => boolean): Whole {
  const data = wholeArray("bool", shape);
  for (let i = 0; i < data.length; i++) data[i] = at(i) ? 1 : 0;
  return new Whole("bool", shape, data);
}

export const int64 = (values: readonly number[], shape: Shape = [values.length]): Whole =>
  new Whole("int64", shape, Float64Array.from(values));

/** A file's tensor as a value. Short floats become float32. */
export function toValue({ shape, type, data }: OnnxTensor): Value {
  if (!isFloatType(type)) return new Whole(type, shape, data as Int32Array | Float64Array);
  return tensor(data, { shape, dtype: type === "float64" ? "float64" : "float32" });
}

/** The type of a value by ONNX's names; short floats are float32 here. */
export const typeOf = (value: Value): ElementName =>
  value instanceof Whole ? value.type : value.dtype === "float16" ? "float32" : (value.dtype as ElementName);

/** The numbers of a value, to be read at once: a tensor's view ends when the heap grows. */
export function numbersIn(value: Value): NumberArray {
  if (value instanceof Whole) return value.data;
  return (value.device === "cpu" ? undefined : known.get(value)) ?? value.storage.view;
}

/** Numbers of constants that lie on a device, where nothing is read at once: what scales, limits and amounts are. */
const known = new WeakMap<Tensor, NumberArray>();
/** Larger ones are data. */
const MOST_KNOWN = 64;

/** Notes a constant's numbers before it is moved. */
export function noteNumbers(t: Tensor): void {
  if (t.device === "cpu" && t.size <= MOST_KNOWN) known.set(t, t.storage.view.slice());
}

/** Whole numbers as an int32 tensor. Throws DTypeError where they do not fit. */
export function int32Tensor({ shape, data, type }: Whole): Tensor {
  const wrong = data.findIndex((v) => v !== (v | 0));
  if (wrong >= 0) {
    const rule = `Numbers of type ${type} leave the model as int32 and must lie in its range`;
    throw new DTypeError({ rule, got: `${data[wrong]} at place ${wrong}` });
  }
  return tensor(data instanceof Int32Array ? data : Int32Array.from(data), { shape, dtype: "int32" });
}

/** Whole numbers as floats of the engine. */
export const floatTensor = ({ shape, data }: Whole, dtype: "float32" | "float64" = "float32"): Tensor =>
  tensor(data, { shape, dtype });

/**
 * Rows of `width` neighbouring elements picked by their numbers: y[i] = x[rows[i]]. Differentiable in a tensor; rows that are picked
 * more than once add up their gradients. Throws ShapeError for a row that is not there.
 */
export function take(value: Value, rows: Int32Array, shape: Shape, width = 1): Value {
  checkRoom(shape);
  if (value instanceof Whole) {
    const data = wholeArray(value.type, shape);
    const from = value.data;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (row < 0 || (row + 1) * width > from.length) throw noSuchRow(row, value);
      for (let k = 0; k < width; k++) data[i * width + k] = from[row * width + k]!;
    }
    return new Whole(value.type, shape, data);
  }
  if (rows.length === 0 || width === 0) return tensor([], { shape: [0], dtype: value.dtype }).reshape(shape);
  const table = value.reshape([value.size / width, width]);
  const index = tensor(rows, { dtype: "int32", device: value.device });
  return embedding(index, table).reshape(shape);
}

const noSuchRow = (row: number, { shape }: Value): ShapeError =>
  new ShapeError({ rule: `Indices lie inside of a tensor of shape ${formatShape(shape)}`, got: `place ${row}` });

/** Places of a strided view of a contiguous array, in its own order. */
export function stridedPlaces(shape: Shape, strides: readonly number[], offset = 0): Int32Array {
  const size = checkRoom(shape, true);
  let places = Int32Array.of(offset);
  if (size === 0) return new Int32Array(0);
  for (const [axis, length] of shape.entries()) {
    const next = new Int32Array(places.length * length);
    for (let p = 0; p < places.length; p++) {
      for (let i = 0; i < length; i++) next[p * length + i] = places[p]! + i * strides[axis]!;
    }
    places = next;
  }
  return places;
}

/** Steps along each axis of `to` through an array of shape `from` that is broadcast to it. */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const own = contiguousStrides(from);
  const extra = to.length - from.length;
  return to.map((_, i) => (i < extra || from[i - extra] === 1 ? 0 : own[i - extra]!));
}

/** A value of another shape, the same numbers. */
export function reshaped(value: Value, shape: Shape): Value {
  if (value instanceof Tensor) return value.reshape(shape);
  if (numberOfElements(shape) !== value.size) {
    const got = `${formatShape(value.shape)} to ${formatShape(shape)}`;
    throw new ShapeError({ rule: "Reshaping keeps the number of elements", got });
  }
  return new Whole(value.type, shape, value.data);
}

/** Axes in another order. */
export function permuted(value: Value, order: readonly number[]): Value {
  if (value instanceof Tensor) return value.permute(order);
  const strides = contiguousStrides(value.shape);
  const shape = order.map((a) => value.shape[a]!);
  const places = stridedPlaces(
    shape,
    order.map((a) => strides[a]!),
  );
  return take(value, places, shape);
}

/** A value repeated along axes of length 1 and new ones in front. */
export function expanded(value: Value, shape: Shape): Value {
  checkRoom(shape);
  if (value instanceof Tensor) return value.expand(shape);
  return take(value, stridedPlaces(shape, broadcastStrides(value.shape, shape)), shape);
}

/** Throws DTypeError unless all values are floats, or all are of one whole type. */
export function checkOneType(values: readonly Value[]): void {
  const kinds = new Set(values.map((v) => (v instanceof Whole ? v.type : "float")));
  if (kinds.size <= 1) return;
  throw new DTypeError({ rule: "The inputs are of one type", got: values.map(typeOf).join(", ") });
}

export const isFloat = (value: Value): value is Tensor => value instanceof Tensor && isFloating(value.dtype);
