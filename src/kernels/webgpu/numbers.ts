import type { DType, NumberArray } from "../../base/dtype.js";

/**
 * What lies in a buffer. WGSL has no float64: there such a number is two float32 numbers whose sum it is, which holds 48 bits
 * of it. Statistics, whose mean has to be that exact, are of this type.
 */
export function encode(values: NumberArray, dtype: DType): ArrayBuffer | Float32Array<ArrayBuffer> {
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
  const pairs = new Float32Array(bytes);
  return Float64Array.from({ length: pairs.length / 2 }, (_, i) => pairs[2 * i]! + pairs[2 * i + 1]!);
}
