import { arithmeticType, type DType, isFloating, mixable } from "../../base/dtype.js";
import { ShapeError } from "../../base/errors.js";
import {
  formatShape,
  normalizeAxes,
  normalizeAxis,
  numberOfElements,
  type Shape,
  sameShape,
} from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { ReduceOp, ReduceView } from "../../kernels/kernel_set.js";
import { isRecording } from "../graph.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { where } from "./elementwise.js";

export interface ReduceOptions {
  /** Keep reduced axes with length 1. Default false. */
  readonly keepDim?: boolean;
}

export interface SumOptions extends ReduceOptions {
  /** The type of the result; x's unless given. float16 is added up in float32 either way. */
  readonly dtype?: DType;
}

interface Reduction {
  readonly axes: readonly number[];
}

/** Shape with the given axes at length 1. */
const keptShape = (shape: Shape, axes: readonly number[]): number[] => shape.map((d, i) => (axes.includes(i) ? 1 : d));

/** [outer, reduce, inner] around the run of neighbouring axes first..last. */
function viewOf(shape: Shape, first: number, last: number): ReduceView {
  return {
    outer: numberOfElements(shape.slice(0, first)),
    reduce: numberOfElements(shape.slice(first, last + 1)),
    inner: numberOfElements(shape.slice(last + 1)),
  };
}

/** Reduces runs of neighbouring axes from the back: the largest pass comes first and the rest is small. */
function reduceAxes(op: ReduceOp, x: Tensor, axes: readonly number[], dtype = x.dtype): Tensor {
  let current = x;
  let step: ReduceOp = op;
  let end = axes.length - 1;
  do {
    let start = end;
    while (start > 0 && axes[start - 1] === axes[start]! - 1) start--;
    const run = end < 0 ? [] : axes.slice(start, end + 1);
    const shape = keptShape(current.shape, run);
    const view =
      run.length > 0 ? viewOf(current.shape, run[0]!, run[run.length - 1]!) : { outer: x.size, reduce: 1, inner: 1 };
    const out = Tensor.empty(shape, start <= 0 ? dtype : arithmeticType(dtype));
    kernels.reduce(step, current.storage, out.storage, view);
    current = out;
    // What is left to do on squares or absolute values is to add them up.
    if (step === "sumSquares" || step === "sumAbs") step = "sum";
    end = start - 1;
  } while (end >= 0);
  return current;
}

interface Sum extends Reduction {
  /** Those of x. */
  readonly shape: Shape;
  readonly from: DType;
  /** The result's. */
  readonly dtype: DType;
}

/** Sum over `axes`, keeping them with length 1. Saves nothing but shape and type. */
const sumOp = defineOp<{ x: Tensor }, Sum>({
  name: "sum",
  forward: ({ x }, { axes, dtype }) => ({ out: reduceAxes("sum", x, axes, dtype) }),
  backward: (dy, _saved, { shape, from }) => ({ x: () => dy.cast(from).expand(shape) }),
  twiceDifferentiable: true,
});

/** Largest or smallest over `axes`; among equals the gradient is shared evenly (PyTorch's amax). */
function defineExtreme(name: "max" | "min") {
  return defineOp<{ x: Tensor }, Reduction, { x: Tensor; out: Tensor }>({
    name,
    forward({ x }, { axes }) {
      const out = reduceAxes(name, x, axes);
      return { out, saved: { x, out } };
    },
    backward(dy, { x, out }, { axes }) {
      return {
        x: () => {
          const hit = x.equal(out);
          return hit.mul(dy.div(hit.sum(axes, { keepDim: true })));
        },
      };
    },
    twiceDifferentiable: true,
  });
}

const extremes = { max: defineExtreme("max"), min: defineExtreme("min") };

/** Product over `axes`. Its gradient is the product of the others. */
const prodOp = defineOp<{ x: Tensor }, Reduction, { x: Tensor; out: Tensor }>({
  name: "prod",
  forward({ x }, { axes }) {
    const out = reduceAxes("prod", x, axes);
    return { out, saved: { x, out } };
  },
  backward(dy, { x, out }, { axes }) {
    return { x: () => dy.mul(isRecording() ? productOfOthers(x, axes) : productByZeros(x, out, axes)) };
  },
  twiceDifferentiable: true,
});

/**
 * The same from the zeros: y / x without one; with one, the product of all else at its place and 0 elsewhere; with more, 0. The
 * slope of these constants is not that of the products.
 */
function productByZeros(x: Tensor, out: Tensor, axes: readonly number[]): Tensor {
  const zero = x.equal(0);
  const zeros = zero.sum(axes, { keepDim: true });
  const alone = zero.mul(zeros.equal(1));
  // 1 in the place of a zero: a factor of the product, and a divisor.
  const filled = x.add(zero);
  const rest = reduceAxes("prod", filled, axes);
  return where(zeros.equal(0), out.div(filled), rest.mul(alone));
}

/** For each element the product of all others along `axes`: those before it times those after it. */
function productOfOthers(x: Tensor, axes: readonly number[]): Tensor {
  const order = [...x.shape.map((_, i) => i).filter((i) => !axes.includes(i)), ...axes];
  const lengths = order.map((a) => x.shape[a]!);
  const n = numberOfElements(axes.map((a) => x.shape[a]!));
  const rows = x.permute(order).reshape([x.size / n, n]);
  const others = productsBefore(rows).mul(productsBefore(rows.flip(1)).flip(1));
  return others.reshape(lengths).permute(order.map((_, i) => order.indexOf(i)));
}

/** Product of what stands before each element of a row, in log2(n) doubling steps. */
function productsBefore(rows: Tensor): Tensor {
  const n = rows.shape[1]!;
  const moved = (t: Tensor, by: number): Tensor =>
    t.narrow(1, 0, n - by).pad(
      [
        [0, 0],
        [by, 0],
      ],
      1,
    );
  let products = moved(rows, 1);
  for (let reach = 1; reach < n; reach *= 2) products = products.mul(moved(products, reach));
  return products;
}

type Axes = number | readonly number[] | undefined;

function finish(x: Tensor, reduced: Tensor, axes: readonly number[], options: ReduceOptions): Tensor {
  if (options.keepDim) return reduced;
  return reduced.reshape(x.shape.filter((_, i) => !axes.includes(i)));
}

/** Sum over the named axes (all by default). */
export function sum(x: Tensor, axes?: Axes, options: SumOptions = {}): Tensor {
  const list = normalizeAxes(axes, x.rank);
  const { dtype = x.dtype } = options;
  const input = mixable(x.dtype, dtype) ? x : x.cast(dtype);
  const sums = sumOp({ x: input }, { axes: list, shape: x.shape, from: input.dtype, dtype });
  return finish(x, sums, list, options);
}

/** Arithmetic mean over the named axes (all by default). */
export function mean(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const list = normalizeAxes(axes, x.rank);
  const input = isFloating(x.dtype) ? x : x.cast("float32");
  const count = list.reduce((n, a) => n * x.shape[a]!, 1);
  const { dtype } = input;
  return sum(input, list, { ...options, dtype: arithmeticType(dtype) })
    .div(count)
    .cast(dtype);
}

/**
 * Variance over the named axes, in two passes. `correction` is taken from the count in the divisor: 1 (default) is the
 * unbiased estimate, 0 the mean squared deviation.
 */
export function variance(x: Tensor, axes?: Axes, options: ReduceOptions & { correction?: number } = {}): Tensor {
  const list = normalizeAxes(axes, x.rank);
  const count = list.reduce((n, a) => n * x.shape[a]!, 1);
  const input = x.cast(arithmeticType(x.dtype));
  const centred = input.sub(mean(input, list, { keepDim: true }));
  const squares = sum(centred.square(), list, options).div(count - (options.correction ?? 1));
  return x.dtype === "float16" ? squares.cast("float16") : squares;
}

function extreme(name: "max" | "min", x: Tensor, axes: Axes, options: ReduceOptions): Tensor {
  const list = normalizeAxes(axes, x.rank);
  if (list.some((a) => x.shape[a] === 0)) {
    throw new ShapeError({ rule: `${name} needs at least one element`, got: `shape ${formatShape(x.shape)}` });
  }
  return finish(x, extremes[name]({ x }, { axes: list }), list, options);
}

/** Largest element over the named axes (all by default). NaN wins. */
export const max = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => extreme("max", x, axes, options);

/** Smallest element over the named axes (all by default). NaN wins. */
export const min = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => extreme("min", x, axes, options);

/** Product over the named axes (all by default). */
export function prod(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const list = normalizeAxes(axes, x.rank);
  return finish(x, prodOp({ x }, { axes: list }), list, options);
}

const argMaxOp = defineOp<{ x: Tensor }, Reduction & { readonly view: ReduceView }>({
  name: "arg_max",
  forward({ x }, { axes, view }) {
    const out = Tensor.empty(keptShape(x.shape, axes), "int32");
    kernels.argMax(x.storage, out.storage, view);
    return { out };
  },
  backward: null,
});

/** int32 position of the first largest element along one axis (of all elements without one). No gradient. */
export function argMax(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  const a = axis === undefined ? undefined : normalizeAxis(axis, x.rank);
  const list = a === undefined ? normalizeAxes(undefined, x.rank) : [a];
  const view = a === undefined ? { outer: 1, reduce: x.size, inner: 1 } : viewOf(x.shape, a, a);
  if (view.reduce === 0) {
    throw new ShapeError({ rule: "argMax needs at least one element", got: `shape ${formatShape(x.shape)}` });
  }
  return finish(x, argMaxOp({ x }, { axes: list, view }), list, options);
}

/** The sum over whatever axes broadcasting added, so that the result has `shape`: the transpose of expand. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const extra = x.rank - shape.length;
  const axes = x.shape.map((_, i) => i).filter((i) => i < extra || (shape[i - extra] === 1 && x.shape[i] !== 1));
  return sumOp({ x }, { axes, shape: x.shape, from: x.dtype, dtype: x.dtype }).reshape(shape);
}
