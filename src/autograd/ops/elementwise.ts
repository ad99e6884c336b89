import { type DType, isFloating, mixable, promote } from "../../base/dtype.js";
import { DTypeError } from "../../base/errors.js";
import { broadcastShapes, numberOfElements, type Shape, sameShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { BinaryOp, BroadcastPlan, UnaryOp } from "../../kernels/kernel_set.js";
import { everyTime } from "../../kernels/tape.js";
import { currentDevice, type DeviceName, onDevice } from "../../memory/device.js";
import { heap } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

type Unary = Op<{ x: Tensor }, Record<never, never>, undefined>;
type Binary = Op<{ a: Tensor; b: Tensor }, Record<never, never>, undefined>;

/** A number as a tensor without axes, so that it broadcasts against anything. */
export function scalar(value: number, dtype: DType, device: DeviceName = currentDevice()): Tensor {
  const storage = new Storage(1, dtype, device);
  if (device === "cpu") everyTime(() => heap.write(storage, 0, value));
  else onDevice(device, () => kernels.fill(storage, value));
  return new Tensor(storage, []);
}

/** dx of each elementwise primitive from dy, the input x and the output y. Absent: no gradient (predicates). */
const unaryGradients: Partial<Record<UnaryOp, (dy: Tensor, x: Tensor, y: Tensor) => Tensor>> = {
  neg: (dy) => dy.neg(),
  abs: (dy, x) => dy.mul(x.sign()),
  square: (dy, x) => dy.mul(x).mul(2),
  sqrt: (dy, _x, y) => dy.div(y).mul(0.5),
  rsqrt: (dy, x, y) => dy.mul(y).div(x).mul(-0.5),
  reciprocal: (dy, _x, y) => dy.mul(y.square()).neg(),
  exp: (dy, _x, y) => dy.mul(y),
  log: (dy, x) => dy.div(x),
  log1p: (dy, x) => dy.div(x.add(1)),
  expm1: (dy, _x, y) => dy.mul(y.add(1)),
  tanh: (dy, _x, y) => dy.mul(y.square().neg().add(1)),
  erf: (dy, x) => dy.mul(x.square().neg().exp()).mul(2 / Math.sqrt(Math.PI)),
  sigmoid: (dy, _x, y) => dy.mul(y.mul(y.neg().add(1))),
  softplus: (dy, x) => dy.mul(x.sigmoid()),
  sin: (dy, x) => dy.mul(x.cos()),
  cos: (dy, x) => dy.mul(x.sin()).neg(),
  sign: (dy) => dy.mul(0),
  floor: (dy) => dy.mul(0),
  ceil: (dy) => dy.mul(0),
  round: (dy) => dy.mul(0),
};

/** Ops that keep whole numbers whole; the others turn int32 into float32 first. */
const integerOps = new Set<UnaryOp>(["neg", "abs", "sign", "square", "not", "floor", "ceil", "round"]);

function defineUnary(op: UnaryOp): Unary {
  const gradient = unaryGradients[op];
  return defineOp<{ x: Tensor }, Record<never, never>, { x: Tensor; y: Tensor }, undefined>({
    name: op,
    forward({ x }) {
      const input = isFloating(x.dtype) || integerOps.has(op) ? x : x.cast("float32");
      const out = Tensor.empty(input.shape, input.dtype);
      kernels.unary(op, input.storage, out.storage);
      return gradient ? { out, saved: { x: input, y: out } } : { out };
    },
    backward: gradient ? (dy, { x, y }) => ({ x: () => gradient(dy, x, y) }) : null,
    twiceDifferentiable: true,
  });
}

const unaryNames: readonly UnaryOp[] = [
  ...["neg", "abs", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "log", "log1p", "expm1"],
  ...["tanh", "erf", "sigmoid", "softplus", "sin", "cos", "floor", "ceil", "round", "isNaN", "not"],
] as UnaryOp[];

/** Elementwise ops of one tensor, y = f(x), any shape. Saves x and y, which share storage with the caller's tensors. */
export const unary = Object.fromEntries(unaryNames.map((op) => [op, defineUnary(op)])) as Record<UnaryOp, Unary>;

type BinaryGradient = (dy: Tensor, a: Tensor, b: Tensor) => Tensor;

/** da and db of each elementwise op of two tensors, before they are summed back over broadcast axes. */
const binaryGradients: Partial<Record<BinaryOp, { a: BinaryGradient; b: BinaryGradient }>> = {
  add: { a: (dy) => dy, b: (dy) => dy },
  sub: { a: (dy) => dy, b: (dy) => dy.neg() },
  mul: { a: (dy, _a, b) => dy.mul(b), b: (dy, a) => dy.mul(a) },
  div: { a: (dy, _a, b) => dy.div(b), b: (dy, a, b) => dy.mul(a.div(b).div(b)).neg() },
  pow: {
    // With exponent 0 the power is 0 instead of -1: at a = 0 the factor b = 0 would meet infinity.
    a: (dy, a, b) => dy.mul(b.mul(a.pow(b.sub(1).add(b.equal(0))))),
    // 0^b has slope 0 in b for b > 0, but log(0) would make it NaN: the log is taken of 1 there.
    b: (dy, a, b) => dy.mul(a.pow(b).mul(a.add(a.equal(0)).log())),
  },
  // At a tie each side gets half, as in PyTorch.
  maximum: {
    a: (dy, a, b) => dy.mul(a.greater(b).add(a.equal(b).mul(0.5))),
    b: (dy, a, b) => dy.mul(b.greater(a).add(a.equal(b).mul(0.5))),
  },
  minimum: {
    a: (dy, a, b) => dy.mul(a.less(b).add(a.equal(b).mul(0.5))),
    b: (dy, a, b) => dy.mul(b.less(a).add(a.equal(b).mul(0.5))),
  },
};

/**
 * The type of what two tensors give: the wider of theirs, except that a float16 tensor beside a single number stays float16, as
 * in PyTorch.
 */
function typeOf(a: Tensor, b: Tensor): DType {
  const dtype = promote(a.dtype, b.dtype);
  if (dtype !== "float32" || (a.dtype !== "float16" && b.dtype !== "float16")) return dtype;
  const [half, other] = a.dtype === "float16" ? [a, b] : [b, a];
  return other.rank === 0 && half.rank > 0 ? "float16" : dtype;
}

/** The tensor as kernels take it beside others of `dtype`: float16 and float32 go together as they are. */
const beside = (t: Tensor, dtype: DType): Tensor => (mixable(t.dtype, dtype) ? t : t.cast(dtype));

function defineBinary(op: BinaryOp): Binary {
  const gradient = binaryGradients[op];
  return defineOp<{ a: Tensor; b: Tensor }, Record<never, never>, { a: Tensor; b: Tensor }, undefined>({
    name: op,
    forward({ a, b }) {
      const dtype = typeOf(a, b);
      const [left, right] = [beside(a, dtype), beside(b, dtype)];
      const shape = broadcastShapes(a.shape, b.shape);
      const out = Tensor.empty(shape, dtype);
      kernels.binary(op, left.storage, right.storage, out.storage, broadcastPlan(a.shape, b.shape, shape));
      return gradient ? { out, saved: { a, b } } : { out };
    },
    backward: gradient
      ? (dy, { a, b }) => ({
          a: () => gradient.a(dy, a, b).sumTo(a.shape).cast(a.dtype),
          b: () => gradient.b(dy, a, b).sumTo(b.shape).cast(b.dtype),
        })
      : null,
    twiceDifferentiable: true,
  });
}

const binaryNames: readonly BinaryOp[] = [
  ...["add", "sub", "mul", "div", "pow", "maximum", "minimum"],
  ...["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual"],
] as BinaryOp[];

/** Elementwise ops of two tensors with NumPy's broadcasting; types promote int32 -> float16 -> float32 -> float64. */
export const binary = Object.fromEntries(binaryNames.map((op) => [op, defineBinary(op)])) as Record<BinaryOp, Binary>;

type Choice = { condition: Tensor; a: Tensor; b: Tensor };
const whereOp: Op<Choice, Record<never, never>, undefined> = defineOp<Choice, Record<never, never>, Choice>({
  name: "where",
  forward({ condition, a, b }) {
    const dtype = typeOf(a, b);
    const shape = broadcastShapes(broadcastShapes(a.shape, b.shape), condition.shape);
    const out = Tensor.empty(shape, dtype);
    const [c, left, right] = [condition, a, b].map((t) => beside(t, dtype).expand(shape).storage);
    kernels.where(c!, left!, right!, out.storage);
    return { out, saved: { condition, a, b } };
  },
  backward(dy, { condition, a, b }) {
    return {
      a: () => where(condition, dy, 0).sumTo(a.shape).cast(a.dtype),
      b: () => where(condition, 0, dy).sumTo(b.shape).cast(b.dtype),
    };
  },
  twiceDifferentiable: true,
});

/**
 * condition ? a : b, elementwise with broadcasting; condition is true where it is not 0 and gets no gradient.
 * At least one of a and b is a tensor.
 */
export function where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  const other = a instanceof Tensor ? a : b instanceof Tensor ? b : condition;
  return whereOp({ condition, a: operand(a, other), b: operand(b, other) }, {});
}

/**
 * The plan for a result shape: axes of length 1 dropped, and neighbours merged where both inputs step through them
 * as through one axis. Most plans come out with rank 1 to 3.
 */
export function broadcastPlan(a: Shape, b: Shape, shape: Shape): BroadcastPlan {
  const size = numberOfElements(shape);
  // Nearly all calls are these: equal shapes, and a number beside a tensor.
  if (size === 0 || (sameShape(a, shape) && sameShape(b, shape))) return flat(size, STEPS, STEPS);
  if (b.length === 0) return flat(size, STEPS, STAYS);
  if (a.length === 0) return flat(size, STAYS, STEPS);
  const aStrides = stridesFor(a, shape);
  const bStrides = stridesFor(b, shape);
  const merged: { shape: number[]; aStrides: number[]; bStrides: number[] } = { shape: [], aStrides: [], bStrides: [] };
  for (const [i, d] of shape.entries()) {
    if (d === 1) continue;
    const last = merged.shape.length - 1;
    const joins = last >= 0 && merged.aStrides[last] === aStrides[i]! * d && merged.bStrides[last] === bStrides[i]! * d;
    if (joins) {
      merged.shape[last]! *= d;
      merged.aStrides[last] = aStrides[i]!;
      merged.bStrides[last] = bStrides[i]!;
    } else {
      merged.shape.push(d);
      merged.aStrides.push(aStrides[i]!);
      merged.bStrides.push(bStrides[i]!);
    }
  }
  return merged.shape.length > 0 ? merged : { shape: [1], aStrides: [0], bStrides: [0] };
}

const STEPS: readonly number[] = [1];
const STAYS: readonly number[] = [0];
const flat = (size: number, aStrides: readonly number[], bStrides: readonly number[]): BroadcastPlan => ({
  shape: [size],
  aStrides,
  bStrides,
});

function stridesFor(from: Shape, to: Shape): number[] {
  const strides = new Array<number>(to.length).fill(0);
  let step = 1;
  for (let i = 1; i <= from.length; i++) {
    const d = from[from.length - i]!;
    strides[to.length - i] = d === 1 ? 0 : step;
    step *= d;
  }
  return strides;
}

/**
 * Both operands as tensors: a number takes the other's type, and turns int32 into float32 when it is not whole. Beside
 * float16 it is not rounded to that first.
 */
export function operand(value: Tensor | number, other: Tensor): Tensor {
  if (value instanceof Tensor) return value;
  if (typeof value !== "number") {
    throw new DTypeError({ rule: "Arithmetic takes a tensor or a number", got: typeof value });
  }
  const own = isFloating(other.dtype) || Number.isInteger(value) ? other.dtype : "float32";
  return scalar(value, own === "float16" && other.rank > 0 ? "float32" : own, other.device);
}
