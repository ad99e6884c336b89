import { heap } from "../../memory/heap.js";
import type { BinaryOp, KernelSet, UnaryOp } from "../kernel_set.js";
import { erf } from "./erf.js";

/** Half to even. */
function round(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

const unaryFunctions: Readonly<Record<UnaryOp, (x: number) => number>> = {
  neg: (x) => -x,
  abs: Math.abs,
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
  square: (x) => x * x,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  exp: Math.exp,
  log: Math.log,
  log1p: Math.log1p,
  expm1: Math.expm1,
  tanh: Math.tanh,
  erf,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  sin: Math.sin,
  cos: Math.cos,
  floor: Math.floor,
  ceil: Math.ceil,
  round,
  isNaN: (x) => (Number.isNaN(x) ? 1 : 0),
  not: (x) => (x === 0 ? 1 : 0),
};

const binaryFunctions: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  maximum: Math.max,
  minimum: Math.min,
  equal: (a, b) => (a === b ? 1 : 0),
  notEqual: (a, b) => (a !== b ? 1 : 0),
  less: (a, b) => (a < b ? 1 : 0),
  lessEqual: (a, b) => (a <= b ? 1 : 0),
  greater: (a, b) => (a > b ? 1 : 0),
  greaterEqual: (a, b) => (a >= b ? 1 : 0),
};

type Loop = (a: Float64Array, b: Float64Array, y: Float64Array, i: number, j: number) => void;
/** Those that normalization takes of many statistics: a loop for each op, which the engine compiles as a call of none. */
const loops: Partial<Record<BinaryOp, Loop>> = {
  add(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = a[k * i]! + b[k * j]!;
  },
  sub(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = a[k * i]! - b[k * j]!;
  },
  mul(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = a[k * i]! * b[k * j]!;
  },
  div(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = a[k * i]! / b[k * j]!;
  },
  maximum(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = Math.max(a[k * i]!, b[k * j]!);
  },
  greaterEqual(a, b, y, i, j) {
    for (let k = 0; k < y.length; k++) y[k] = a[k * i]! >= b[k * j]! ? 1 : 0;
  },
};

const INT_MAX = 2 ** 31 - 1;

/** Towards zero, held within int32 as the WASM instruction does it; NaN becomes 0. */
const toInt = (x: number): number => Math.trunc(Math.min(Math.max(x, -INT_MAX - 1), INT_MAX));

type Elementwise = Pick<KernelSet, "fill" | "cast" | "unary" | "binary" | "where" | "addScaled">;

export const elementwise: Elementwise = {
  fill(y, value) {
    heap.view(y).fill(value);
  },

  cast(x, y) {
    const from = heap.view(x);
    const to = heap.view(y);
    const ints = y.dtype === "int32";
    for (let i = 0; i < to.length; i++) to[i] = ints ? toInt(from[i]!) : from[i]!;
  },

  unary(op, x, y) {
    const f = unaryFunctions[op];
    const from = heap.view(x);
    const to = heap.view(y);
    for (let i = 0; i < to.length; i++) to[i] = f(from[i]!);
  },

  binary(op, a, b, y, { shape, aStrides, bStrides }) {
    const f = binaryFunctions[op];
    const [va, vb, vy] = [heap.view(a), heap.view(b), heap.view(y)];
    if (shape.length === 1) {
      const loop = a.dtype === "float64" && b.dtype === "float64" ? loops[op] : undefined;
      const [stepA, stepB] = [aStrides[0]!, bStrides[0]!];
      if (loop) loop(va as Float64Array, vb as Float64Array, vy as Float64Array, stepA, stepB);
      else for (let i = 0; i < vy.length; i++) vy[i] = f(va[i * stepA]!, vb[i * stepB]!);
      return;
    }
    const index = shape.map(() => 0);
    let ia = 0;
    let ib = 0;
    for (let i = 0; i < vy.length; i++) {
      vy[i] = f(va[ia]!, vb[ib]!);
      // The next index: the last axis runs fastest, and an axis that is through goes back to its start.
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        ia += aStrides[axis]!;
        ib += bStrides[axis]!;
        if (++index[axis]! < shape[axis]!) break;
        ia -= aStrides[axis]! * shape[axis]!;
        ib -= bStrides[axis]! * shape[axis]!;
        index[axis] = 0;
      }
    }
  },

  where(condition, a, b, y) {
    const [vc, va, vb, vy] = [heap.view(condition), heap.view(a), heap.view(b), heap.view(y)];
    for (let i = 0; i < vy.length; i++) vy[i] = vc[i] !== 0 ? va[i]! : vb[i]!;
  },

  addScaled(x, y, scale) {
    const vx = heap.view(x);
    const vy = heap.view(y);
    for (let i = 0; i < vy.length; i++) vy[i] = vy[i]! + scale * vx[i]!;
  },
};
