import type { DType } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import type { BroadcastPlan, KernelSet, UnaryOp } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { binary } from "./binary.js";

/** Elements a unit: 16 KiB, half a first-level cache for one operand in and one out. */
export const UNIT = 4096;

export function needFloat32(kernel: string, ...slots: readonly (Slot | null)[]): void {
  for (const s of slots) {
    if (s !== null && s.dtype !== "float32")
      throw new UnsupportedKernel(`${kernel} has a WASM kernel for float32 only`);
  }
}

/** Codes as in assembly/elementwise.ts. */
const unaryCode: Readonly<Record<UnaryOp, number>> = {
  neg: 0,
  abs: 1,
  sign: 2,
  square: 3,
  sqrt: 4,
  rsqrt: 5,
  reciprocal: 6,
  exp: 7,
  log: 8,
  log1p: 9,
  expm1: 10,
  tanh: 11,
  erf: 12,
  sigmoid: 13,
  softplus: 14,
  sin: 15,
  cos: 16,
  floor: 17,
  ceil: 18,
  round: 19,
  isNaN: 20,
  not: 21,
};
/** What an element costs beside an addition that waits for memory: exp to softplus about 8, sin and cos about 50. */
const unaryWork = (code: number): number => (code === 15 || code === 16 ? 50 : code >= 7 && code <= 14 ? 8 : 1);

const castCode: Partial<Record<`${DType} ${DType}`, number>> = {
  "float32 float32": 0,
  "int32 int32": 0,
  "float32 int32": 1,
  "int32 float32": 2,
  "float64 float32": 3,
  "float32 float64": 4,
};

type Elementwise = Pick<KernelSet, "fill" | "cast" | "unary" | "binary" | "where" | "addScaled">;

export const elementwise: Elementwise = {
  fill(y, value) {
    needFloat32("fill", y);
    launch("fill", Math.ceil(y.length / UNIT), y.length, [y.ptr, y.length, value, UNIT]);
  },

  cast(x, y) {
    const code = castCode[`${x.dtype} ${y.dtype}`];
    if (code === undefined) throw new UnsupportedKernel(`cast has no WASM kernel from ${x.dtype} to ${y.dtype}`);
    launch("cast", Math.ceil(y.length / UNIT), y.length, [x.ptr, y.ptr, y.length, code, UNIT]);
  },

  unary(op, x, y) {
    needFloat32("unary", x, y);
    const code = unaryCode[op];
    launch("unary", Math.ceil(y.length / UNIT), y.length * unaryWork(code), [code, x.ptr, y.ptr, y.length, UNIT]);
  },

  binary(op, a, b, y, plan: BroadcastPlan) {
    needFloat32("binary", a, b, y);
    binary(op, a, b, y, plan);
  },

  where(condition, a, b, y) {
    needFloat32("where", a, b, y);
    if (condition.dtype === "float64") throw new UnsupportedKernel("where has no WASM kernel for a float64 condition");
    const ints = condition.dtype === "int32" ? 1 : 0;
    const args = [condition.ptr, a.ptr, b.ptr, y.ptr, y.length, ints, UNIT];
    launch("where", Math.ceil(y.length / UNIT), y.length, args);
  },

  addScaled(x, y, scale) {
    needFloat32("addScaled", x, y);
    launch("add_scaled", Math.ceil(y.length / UNIT), y.length, [x.ptr, y.ptr, y.length, scale, UNIT]);
  },
};
