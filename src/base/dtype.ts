import { DTypeError } from "./errors.js";

/**
 * Element types. float64 runs on the reference kernels; int32 is for labels and indices; float16 is how a GPU that can do so
 * stores numbers, which it computes with in float32, and the CPU has none of it.
 */
export type DType = "float32" | "float64" | "int32" | "float16";

/** float16 numbers are held as float32 where JavaScript sees them: Node 20 has no Float16Array. */
export type TypedArrayOf<D extends DType> = D extends "float32" | "float16"
  ? Float32Array
  : D extends "float64"
    ? Float64Array
    : Int32Array;

export type NumberArray = Float32Array | Float64Array | Int32Array;

export const bytesPerElement: Readonly<Record<DType, number>> = { float32: 4, float64: 8, int32: 4, float16: 2 };

/** The type that kernels compute with where numbers are stored as `dtype`. */
export const arithmeticType = (dtype: DType): DType => (dtype === "float16" ? "float32" : dtype);

/** Whether one kernel takes both as they are. */
export const mixable = (a: DType, b: DType): boolean => arithmeticType(a) === arithmeticType(b);

/** Numbers as the array that holds this type: itself where it is one. float16 is rounded to once, from what is longest. */
export function numbersOf(values: ArrayLike<number>, dtype: DType): NumberArray {
  const array = dtype === "float32" ? Float32Array : dtype === "int32" ? Int32Array : Float64Array;
  return values instanceof array ? values : array.from(values);
}

export function checkDType(dtype: unknown): DType {
  if (typeof dtype === "string" && Object.hasOwn(bytesPerElement, dtype)) return dtype as DType;
  throw new DTypeError({
    rule: `dtype must be one of ${Object.keys(bytesPerElement).join(", ")}`,
    got: String(dtype),
    fix: "Name one of these",
  });
}

export const isFloating = (dtype: DType): boolean => dtype !== "int32";

/** The type an elementwise operation of two tensors has: int32 gives way to a float, a shorter float to a longer one. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (a === "float64" || b === "float64") return "float64";
  if (a === "float32" || b === "float32") return "float32";
  return "float16";
}
