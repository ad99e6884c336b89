import { type DType, type NumberArray, numbersOf } from "../base/dtype.js";
import { damaged } from "./damage.js";

/** An element type of a file: how its bytes, little-endian, become numbers of a type that tensors have, and the way back. */
export interface ElementType {
  readonly bytes: number;
  /** The type of the tensor that holds it: whole numbers become int32, shorter floats float32. */
  readonly dtype: DType;
  /** Copies, so that the result is aligned and does not hold the file. Throws FormatError for whole numbers beyond int32. */
  readonly decode: (bytes: Uint8Array, file: string, at: number | string) => NumberArray;
  readonly encode: (numbers: ArrayLike<number>) => Uint8Array;
}

type ArrayClass<A> = { new (from: ArrayBuffer | ArrayLike<number>): A; BYTES_PER_ELEMENT: number };
type RawArray = NumberArray | Int8Array | Int16Array | Uint8Array | Uint16Array | Uint32Array;

/** typed arrays have this machine's byte order, and files little-endian: the same wherever JavaScript runs today. */
const raw = <A>(Kind: ArrayClass<A>, bytes: Uint8Array): A => new Kind(new Uint8Array(bytes).buffer);
const bytesOf = (array: RawArray | BigInt64Array | BigUint64Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength) as Uint8Array;

/** Types that fit into the tensor's own. */
function fitting<A extends RawArray>(dtype: DType, Kind: ArrayClass<A>): ElementType {
  return {
    bytes: Kind.BYTES_PER_ELEMENT,
    dtype,
    decode: (bytes) => numbersOf(raw(Kind, bytes), dtype),
    // Between arrays of one type this copies bytes: a NaN keeps its payload.
    encode: (numbers) => bytesOf(new Kind(numbers)),
  };
}

/** Whole numbers that may not fit into int32. */
function wide<A extends Uint32Array | BigInt64Array | BigUint64Array>(
  Kind: { new (buffer: ArrayBuffer): A; BYTES_PER_ELEMENT: number },
  encode: ElementType["encode"],
): ElementType {
  return {
    bytes: Kind.BYTES_PER_ELEMENT,
    dtype: "int32",
    decode: (bytes, file, at) => {
      const numbers = new Kind(new Uint8Array(bytes).buffer);
      const narrow = new Int32Array(numbers.length);
      for (let i = 0; i < narrow.length; i++) {
        const value = Number(numbers[i]);
        narrow[i] = value;
        if (narrow[i] === value) continue;
        const rule = "Whole numbers become int32 and must lie in its range";
        throw damaged(file, at, { rule, got: `${numbers[i]} at place ${i}` });
      }
      return narrow;
    },
    encode,
  };
}

/** A typed array's `from` with a function takes 250 ns for an element in Node 20, this loop 3 (both for float16). */
function map<A extends { [i: number]: number }>(from: ArrayLike<number>, to: A, change: (value: number) => number): A {
  for (let i = 0; i < from.length; i++) to[i] = change(from[i]!);
  return to;
}

const isBool: ElementType = {
  bytes: 1,
  dtype: "int32",
  decode: (bytes) => map(bytes, new Int32Array(bytes.length), (b) => (b === 0 ? 0 : 1)),
  encode: (numbers) => map(numbers, new Uint8Array(numbers.length), (v) => (v === 0 ? 0 : 1)),
};

let halves: Float32Array | null = null;

/** All numbers that float16 has, by their bits. */
function float16Table(): Float32Array {
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => fromFloat16(bits));
  return halves;
}

const half: ElementType = {
  bytes: 2,
  dtype: "float32",
  decode: (bytes) => {
    const table = float16Table();
    const from = raw(Uint16Array, bytes);
    const to = new Float32Array(from.length);
    for (let i = 0; i < to.length; i++) to[i] = table[from[i]!]!;
    return to;
  },
  encode: (numbers) => {
    const to = new Uint16Array(numbers.length);
    return bytesOf(numbers instanceof Float32Array ? shorten(numbers, to) : map(numbers, to, toFloat16));
  },
};

const brainFloat: ElementType = {
  bytes: 2,
  dtype: "float32",
  decode: (bytes) => {
    const from = raw(Uint16Array, bytes);
    const bits = new Uint32Array(from.length);
    for (let i = 0; i < bits.length; i++) bits[i] = from[i]! << 16;
    return new Float32Array(bits.buffer);
  },
  encode: (numbers) => bytesOf(map(numbers, new Uint16Array(numbers.length), toBFloat16)),
};

/** By the names that numpy and ONNX's documentation share. */
export const elementTypes = {
  float64: fitting("float64", Float64Array),
  float32: fitting("float32", Float32Array),
  float16: half,
  bfloat16: brainFloat,
  int64: wide(BigInt64Array, (numbers) => bytesOf(BigInt64Array.from(numbers as number[], BigInt))),
  int32: fitting("int32", Int32Array),
  int16: fitting("int32", Int16Array),
  int8: fitting("int32", Int8Array),
  uint64: wide(BigUint64Array, (numbers) => bytesOf(BigUint64Array.from(numbers as number[], BigInt))),
  uint32: wide(Uint32Array, (numbers) => bytesOf(new Uint32Array(numbers))),
  uint16: fitting("int32", Uint16Array),
  uint8: fitting("int32", Uint8Array),
  bool: isBool,
} as const satisfies Record<string, ElementType>;

export type ElementName = keyof typeof elementTypes;

/** IEEE 754 binary16 from its bits: exact. */
export function fromFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The bits of the nearest binary16, ties to even. */
export function toFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  // 65520 lies half way between the largest number, 65504, and what would come next.
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -24)));
  const step = 2 ** (exponent - 10);
  // A rounding up to the next power of two carries into the exponent's bits by itself.
  return sign | ((exponent + 14) * 1024 + roundEven(size / step));
}

/** The same for numbers of float32, nearly all of them by their bits alone. */
function shorten(from: Float32Array, to: Uint16Array): Uint16Array {
  const bits = new Uint32Array(from.buffer, from.byteOffset, from.length);
  for (let i = 0; i < to.length; i++) {
    const b = bits[i]!;
    const size = b & 0x7fffffff;
    // Normal numbers: 13 bits of the fraction go, with the exponent's bias brought from 127 to 15; from 65520 on it is infinity.
    if (size >= 0x38800000 && size < 0x477ff000) {
      to[i] = ((b >>> 16) & 0x8000) | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
    } else to[i] = toFloat16(from[i]!);
  }
  return to;
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The upper half of the nearest float32, rounded to even. */
export function toBFloat16(value: number): number {
  float[0] = value;
  const bits = floatBits[0]!;
  if (Number.isNaN(value)) return 0x7fc0;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function roundEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}
