import type { DType } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import type { BroadcastPlan, KernelSet, UnaryOp } from "../kernel_set.js";
import { kernelArgs, run } from "../threads/pool.js";
import { binary } from "./binary.js";
import { kernelIndex } from "./module.js";

/** Elements a unit: 16 KiB, half a first-level cache for one operand in and one out. */
export const UNIT = 4096;

/** Throws unless every slot that is there has type float32. */
export function needFloat32(kernel: string, a: Slot | null, b?: Slot | null, c?: Slot | null, d?: Slot | null): void {
  if (isOther(a) || isOther(b) || isOther(c) || isOther(d)) {
    throw new UnsupportedKernel(`${kernel} has a WASM kernel for float32 only`);
  }
}

const isOther = (slot: Slot | null | undefined): boolean => slot != null && slot.dtype !== "float32";

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
const FILL = kernelIndex("fill");
const CAST = kernelIndex("cast");
const UNARY = kernelIndex("unary");
const WHERE = kernelIndex("where");
const ADD_SCALED = kernelIndex("add_scaled");

/** Nanoseconds that an element takes where memory is what an operation waits for; measured as all such figures are. */
export const LIGHT_WORK = 0.125;
/** The same for an exponential or its like. */
export const EXP_WORK = 1.5;
/** exp to softplus; sin and cos, lane by lane in double precision. */
const unaryWork = (code: number): number =>
  code === 15 || code === 16 ? 8 : code >= 7 && code <= 14 ? EXP_WORK : LIGHT_WORK;

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
    const a = kernelArgs();
    a[0] = y.ptr;
    a[1] = y.length;
    a[2] = value;
    a[3] = UNIT;
    run(FILL, Math.ceil(y.length / UNIT), y.length * LIGHT_WORK);
  },

  cast(x, y) {
    const code = castCode[`${x.dtype} ${y.dtype}`];
    if (code === undefined) throw new UnsupportedKernel(`cast has no WASM kernel from ${x.dtype} to ${y.dtype}`);
    const a = kernelArgs();
    a[0] = x.ptr;
    a[1] = y.ptr;
    a[2] = y.length;
    a[3] = code;
    a[4] = UNIT;
    run(CAST, Math.ceil(y.length / UNIT), y.length * LIGHT_WORK);
  },

  unary(op, x, y) {
    needFloat32("unary", x, y);
    const code = unaryCode[op];
    const a = kernelArgs();
    a[0] = code;
    a[1] = x.ptr;
    a[2] = y.ptr;
    a[3] = y.length;
    a[4] = UNIT;
    run(UNARY, Math.ceil(y.length / UNIT), y.length * unaryWork(code));
  },

  binary(op, a, b, y, plan: BroadcastPlan) {
    needFloat32("binary", a, b, y);
    binary(op, a, b, y, plan);
  },

  where(condition, a, b, y) {
    needFloat32("where", a, b, y);
    if (condition.dtype === "float64") throw new UnsupportedKernel("where has no WASM kernel for a float64 condition");
    const args = kernelArgs();
    args[0] = condition.ptr;
    args[1] = a.ptr;
    args[2] = b.ptr;
    args[3] = y.ptr;
    args[4] = y.length;
    args[5] = condition.dtype === "int32" ? 1 : 0;
    args[6] = UNIT;
    run(WHERE, Math.ceil(y.length / UNIT), y.length * LIGHT_WORK);
  },

  addScaled(x, y, scale) {
    needFloat32("addScaled", x, y);
    const a = kernelArgs();
    a[0] = x.ptr;
    a[1] = y.ptr;
    a[2] = y.length;
    a[3] = scale;
    a[4] = UNIT;
    run(ADD_SCALED, Math.ceil(y.length / UNIT), y.length * LIGHT_WORK);
  },
};
