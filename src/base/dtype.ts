import { DTypeError } from "./errors.js";

/** Element types that the CPU holds. float64 runs on the reference kernels; int32 is for labels and indices. */
export type DType = "float32" | "float64" | "int32";

export type TypedArrayOf<D extends DType> = D extends "float32"
  ? Float32Array
  : D extends "float64"
    ? Float64Array
    : Int32Array;

export type NumberArray = Float32Array | Float64Array | Int32Array;

export const bytesPerElement: Readonly<Record<DType, number>> = { float32: 4, float64: 8, int32: 4 };

/** Numbers as the array that holds this type: itself where it is one. */
export function numbersOf(values: ArrayLike<number>, dtype: DType): NumberArray {
  const array = dtype === "float32" ? Float32Array : dtype === "float64" ? Float64Array : Int32Array;
  return values instanceof array ? values : array.from(values);
}

export function checkDType(dtype: unknown): DType {
  if (dtype === "float32" || dtype === "float64" || dtype === "int32") return dtype;
  throw new DTypeError({
    rule: "dtype must be one of float32, float64, int32",
    got: String(dtype),
    fix: dtype === "float16" ? "float16 needs a WebGPU device that has it" : "Name one of these",
  });
}

export const isFloating = (dtype: DType): boolean => dtype !== "int32";

/** The type an elementwise operation of two tensors has: int32 gives way to a float, float32 to float64. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (a === "float64" || b === "float64") return "float64";
  return "float32";
}
