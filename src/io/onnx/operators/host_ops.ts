import { defineOp, type Op, Tensor } from "../../../autograd/index.js";
import { contiguousStrides, type Shape } from "../../../base/shape.js";
import { kernels } from "../../../kernels/dispatch.js";
import type { StridedPlan } from "../../../kernels/kernel_set.js";

// Ops that ONNX has and the engine lacks: loops of JavaScript over numbers on the CPU, with gradients.

type Unary = Op<{ x: Tensor }, Record<never, never>, undefined>;

/** y = f(x), elementwise; dx = dy * slope(x, y), slope being made of differentiable ops. Any shape. Saves x and y. */
function elementwise(name: string, f: (x: number) => number, slope: (x: Tensor, y: Tensor) => Tensor): Unary {
  return defineOp<{ x: Tensor }, Record<never, never>, { x: Tensor; y: Tensor }>({
    name,
    forward({ x }) {
      const out = x.emptyLike();
      const [from, to] = [x.storage.view, out.storage.view];
      for (let i = 0; i < to.length; i++) to[i] = f(from[i]!);
      return { out, saved: { x, y: out } };
    },
    backward: (dy, { x, y }) => ({ x: () => dy.mul(slope(x, y)) }),
    twiceDifferentiable: true,
  });
}

const oneMinusSquare = (x: Tensor): Tensor => x.square().neg().add(1);

/** Trigonometric and hyperbolic functions by the names of ONNX. */
export const angles: Readonly<Record<string, Unary>> = {
  Tan: elementwise("tan", Math.tan, (_x, y) => y.square().add(1)),
  Asin: elementwise("asin", Math.asin, (x) => oneMinusSquare(x).rsqrt()),
  Acos: elementwise("acos", Math.acos, (x) => oneMinusSquare(x).rsqrt().neg()),
  Atan: elementwise("atan", Math.atan, (x) => x.square().add(1).reciprocal()),
  Sinh: elementwise("sinh", Math.sinh, (x) => x.exp().add(x.neg().exp()).mul(0.5)),
  Cosh: elementwise("cosh", Math.cosh, (x) => x.exp().sub(x.neg().exp()).mul(0.5)),
  Asinh: elementwise("asinh", Math.asinh, (x) => x.square().add(1).rsqrt()),
  Acosh: elementwise("acosh", Math.acosh, (x) => x.square().sub(1).rsqrt()),
  Atanh: elementwise("atanh", Math.atanh, (x) => oneMinusSquare(x).reciprocal()),
};

/**
 * The rest of a / b with the sign of a, or of b where `floored`: y = a - b q, q cut off or rounded down, exactly. da = dy and
 * db = -q dy, since q is constant but for jumps. Shapes: a, b and y alike. Saves a and b.
 */
export const remainder = defineOp<{ a: Tensor; b: Tensor }, { floored: boolean }, { a: Tensor; b: Tensor }>({
  name: "remainder",
  forward({ a, b }, { floored }) {
    const out = a.emptyLike();
    const [left, right, to] = [a.storage.view, b.storage.view, out.storage.view];
    for (let i = 0; i < to.length; i++) {
      const rest = left[i]! % right[i]!;
      to[i] = floored && rest !== 0 && rest < 0 !== right[i]! < 0 ? rest + right[i]! : rest;
    }
    return { out, saved: { a, b } };
  },
  backward: (dy, { a, b }, { floored }) => ({
    a: () => dy,
    b: () => dy.mul(a.sub(remainder({ a, b }, { floored })).div(b)).neg(),
  }),
  twiceDifferentiable: true,
}) as Op<{ a: Tensor; b: Tensor }, { floored: boolean }, undefined>;

interface Running {
  /** x as [outer, length, inner], added up along the middle. */
  readonly length: number;
  readonly inner: number;
  readonly reverse: boolean;
  /** Leaves out the element itself. */
  readonly exclusive: boolean;
}

/** Sums up to each element, in float64. Shapes: x and y alike. Its gradient is the same op the other way round. */
export const cumulativeSum: Op<{ x: Tensor }, Running, undefined> = defineOp<{ x: Tensor }, Running>({
  name: "cumulative_sum",
  forward({ x }, running) {
    const out = x.emptyLike();
    addUp(x.storage.view, out.storage.view, running);
    return { out };
  },
  backward: (dy, _saved, running) => ({ x: () => cumulativeSum({ x: dy }, { ...running, reverse: !running.reverse }) }),
  twiceDifferentiable: true,
});

export function addUp(
  from: ArrayLike<number>,
  to: { [i: number]: number },
  { length, inner, reverse, exclusive }: Running,
): void {
  const planes = length * inner;
  for (let start = 0; start < from.length; start += planes) {
    for (let k = 0; k < inner; k++) {
      let sum = 0;
      for (let i = 0; i < length; i++) {
        const place = start + (reverse ? length - 1 - i : i) * inner + k;
        const value = from[place]!;
        to[place] = exclusive ? sum : sum + value;
        sum += value;
      }
    }
  }
}

interface Strided {
  readonly from: Shape;
  readonly plan: StridedPlan;
}

/** Elements of x at regular steps, each at most once: a slice. Its transpose puts them back among zeros. Saves nothing. */
export const strided: Op<{ x: Tensor }, Strided, undefined> = defineOp<{ x: Tensor }, Strided>({
  name: "strided_slice",
  forward({ x }, { plan }) {
    const out = Tensor.empty(plan.shape, x.dtype);
    kernels.gather(x.storage, out.storage, plan);
    return { out };
  },
  backward: (dy, _saved, options) => ({ x: () => putBack({ x: dy }, options) }),
  twiceDifferentiable: true,
});

const putBack: Op<{ x: Tensor }, Strided, undefined> = defineOp<{ x: Tensor }, Strided>({
  name: "strided_slice_grad",
  forward({ x }, { from, plan }) {
    const out = Tensor.empty(from, x.dtype);
    kernels.fill(out.storage, 0);
    kernels.scatter(x.storage, out.storage, plan);
    return { out };
  },
  backward: (dy, _saved, options) => ({ x: () => strided({ x: dy }, options) }),
  twiceDifferentiable: true,
});

/** The plan of a slice: `shape` elements from `start` in steps, which may be negative. */
export function slicePlan(from: Shape, shape: Shape, start: readonly number[], step: readonly number[]): StridedPlan {
  const own = contiguousStrides(from);
  const offset = start.reduce((sum, s, i) => sum + s * own[i]!, 0);
  return { shape, strides: own.map((s, i) => s * step[i]!), offset };
}

/** x with updates [n] added at n places of it, given by number; more than once where a place comes again. */
export const addedAt = defineOp<
  { x: Tensor; updates: Tensor; places: Tensor },
  Record<never, never>,
  { places: Tensor }
>({
  name: "scatter_add",
  forward({ x, updates, places }) {
    const out = x.emptyLike();
    kernels.cast(x.storage, out.storage);
    kernels.embeddingGrad(places.storage, updates.storage, out.storage, 1);
    return { out, saved: { places } };
  },
  backward: (dy, { places }) => ({
    x: () => dy,
    updates: () => {
      const out = Tensor.empty(places.shape, dy.dtype);
      kernels.embedding(dy.storage, places.storage, out.storage, 1);
      return out;
    },
  }),
});
