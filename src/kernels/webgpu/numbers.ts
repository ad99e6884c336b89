import type { DType, NumberArray } from "../../base/dtype.js";

/**
 * What lies in a buffer. WGSL has no float64: there such a number is two float32 numbers whose sum it is, which holds 48 bits
 * of it. Statistics, whose mean has to be that exact, are of this type. float16 comes in whole words: a half beyond an odd
 * length is 0.
 */
export function encode(values: NumberArray, dtype: DType): ArrayBuffer | Float32Array<ArrayBuffer> {
  if (dtype === "float16") return halves(values).buffer;
  if (dtype !== "float64") return values.slice().buffer as ArrayBuffer;
  const pairs = new Float32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    const high = Math.fround(values[i]!);
    pairs[2 * i] = high;
    // Infinity less itself is no number, and an infinite sum has no rest.
    pairs[2 * i + 1] = Number.isFinite(high) ? values[i]! - high : 0;
  }
  return pairs;
}

export function decode(bytes: ArrayBuffer, dtype: DType): NumberArray {
  if (dtype === "float32") return new Float32Array(bytes);
  if (dtype === "int32") return new Int32Array(bytes);
  if (dtype === "float16") return Float32Array.from(new Uint16Array(bytes), fromHalf);
  const pairs = new Float32Array(bytes);
  return Float64Array.from({ length: pairs.length / 2 }, (_, i) => pairs[2 * i]! + pairs[2 * i + 1]!);
}

function halves(values: NumberArray): Uint16Array<ArrayBuffer> {
  const bits = new Uint16Array(values.length + (values.length % 2));
  for (let i = 0; i < values.length; i++) bits[i] = toHalf(values[i]!);
  return bits;
}

/** Halfway between the largest half and the power of two above it. */
const OVERFLOW = 65520;
/** The exponent of the smallest normal half; below it the distance of two halves stays the same. */
const LEAST_EXPONENT = -14;
/** Numbers this large are whole, and a sum that reaches it is rounded to the nearest, to the even one of two. */
const WHOLE = 2 ** 52;
const number = new Float64Array(1);
const words = new Uint32Array(number.buffer);

/** The bits of the half nearest to a number, of two equally near the even one. */
export function toHalf(value: number): number {
  number[0] = value;
  const high = words[1]!;
  const sign = (high >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= OVERFLOW) return sign | 0x7c00;
  const exponent = Math.max(LEAST_EXPONENT, ((high >>> 20) & 0x7ff) - 1023);
  // In units of the last place: 1024 to 2048, less for subnormal numbers. The leading bit adds one to the exponent.
  const units = size * 2 ** (10 - exponent) + WHOLE - WHOLE;
  return sign | (((exponent - LEAST_EXPONENT) << 10) + units);
}

/** The number that a half is. */
export function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 31
      ? fraction === 0
        ? Number.POSITIVE_INFINITY
        : Number.NaN
      : exponent === 0
        ? fraction * 2 ** (LEAST_EXPONENT - 10)
        : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}
