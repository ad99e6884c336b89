import { type Tensor, where } from "../../../autograd/index.js";
import { ShapeError } from "../../../base/errors.js";
import { normalizeAxes, normalizeAxis, numberOfElements, type Shape } from "../../../base/shape.js";
import { int } from "../attributes.js";
import type { Call } from "../call.js";
import type { Operator, OperatorTable } from "../operator.js";
import { computed, isFloat, numbersIn, permuted, take, type Value, Whole, wholeArray } from "../value.js";
import { addUp, cumulativeSum } from "./host_ops.js";

interface Reduction {
  readonly float: (x: Tensor, axes: readonly number[]) => Tensor;
  /** The same of a row of whole numbers. */
  readonly whole?: (row: Row) => number;
  /** The first opset in which `axes` is an input. */
  readonly moved: number;
}

const kept = { keepDim: true } as const;
type Row = Int32Array | Float64Array;
const folded = (row: Row, f: (a: number, b: number) => number, start: number): number => {
  let value = start;
  for (let i = 0; i < row.length; i++) value = f(value, row[i]!);
  return value;
};
const sums = (row: Row): number => folded(row, (a, b) => a + b, 0);
const extreme =
  (choose: (a: number, b: number) => number) =>
  (row: Row): number => {
    if (row.length === 0) throw new ShapeError({ rule: "An extreme is taken of at least one number", got: "none" });
    return folded(row, choose, row[0]!);
  };

/** log of the sum of exp(x), the largest x taken out so that nothing overflows. */
function logSumExp(x: Tensor, axes: readonly number[]): Tensor {
  const largest = x.max(axes, kept).detach();
  const shift = where(largest.abs().less(Number.POSITIVE_INFINITY), largest, 0);
  return x.sub(shift).exp().sum(axes, kept).log().add(shift);
}

const reductions: Readonly<Record<string, Reduction>> = {
  ReduceSum: { float: (x, axes) => x.sum(axes, kept), whole: sums, moved: 13 },
  ReduceMean: {
    float: (x, axes) => x.mean(axes, kept),
    whole: (row) => Math.trunc(sums(row) / row.length),
    moved: 18,
  },
  ReduceMax: { float: (x, axes) => x.max(axes, kept), whole: extreme((a, b) => Math.max(a, b)), moved: 18 },
  ReduceMin: { float: (x, axes) => x.min(axes, kept), whole: extreme((a, b) => Math.min(a, b)), moved: 18 },
  ReduceProd: {
    float: (x, axes) => x.prod(axes, kept),
    whole: (row) => folded(row, (a, b) => a * b, 1),
    moved: 18,
  },
  ReduceL1: { float: (x, axes) => x.abs().sum(axes, kept), moved: 18 },
  ReduceL2: { float: (x, axes) => x.square().sum(axes, kept).sqrt(), moved: 18 },
  ReduceLogSum: { float: (x, axes) => x.sum(axes, kept).log(), moved: 18 },
  ReduceLogSumExp: { float: logSumExp, moved: 18 },
  ReduceSumSquare: { float: (x, axes) => x.square().sum(axes, kept), moved: 18 },
};

function reduced(call: Call, { float, whole }: Reduction): Value {
  const x = call.value(0);
  const given = call.optionalList(1) ?? [];
  // Over no axes each element is reduced by itself: its square, its absolute value.
  const none = call.flag("noop_with_empty_axes");
  const axes = normalizeAxes(given.length > 0 || none ? given : undefined, x.rank);
  const shape = call.flag("keepdims")
    ? x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
    : x.shape.filter((_, i) => !axes.includes(i));
  if (isFloat(x)) return float(x, axes).reshape(shape);
  if (!whole) return call.tensor(0);
  const rows = permuted(x, [...x.shape.keys()].filter((i) => !axes.includes(i)).concat(axes)) as Whole;
  const length = numberOfElements(axes.map((i) => x.shape[i]!));
  return computed(x.type, shape, (i) => whole(rows.data.subarray(i * length, (i + 1) * length)));
}

const reduction = (f: Reduction): Operator => ({
  since: 1,
  inputs: [1, 2],
  attributes: { keepdims: int(1), noop_with_empty_axes: { ...int(0), since: f.moved } },
  moved: { axes: { kind: "ints", input: 1, at: f.moved } },
  run: (call) => reduced(call, f),
});

/** x around one axis: [outer, length, inner]. */
function around(shape: Shape, axis: number): { outer: number; length: number; inner: number } {
  const [outer, inner] = [shape.slice(0, axis), shape.slice(axis + 1)].map(numberOfElements);
  return { outer: outer!, length: shape[axis]!, inner: inner! };
}

/** Places of extremes along an axis, int64; NaN counts as the largest and the smallest. */
function argExtreme(call: Call, sign: 1 | -1): Whole {
  const x = call.value(0);
  const axis = normalizeAxis(call.int("axis"), x.rank);
  const { outer, length, inner } = around(x.shape, axis);
  const shape = x.shape.map((d, i) => (i === axis ? 1 : d));
  if (length === 0) throw new ShapeError({ rule: "An extreme is taken of at least one number", got: `[${x.shape}]` });
  const numbers = numbersIn(x);
  const last = call.flag("select_last_index");
  const data = wholeArray("int64", call.flag("keepdims") ? shape : shape.filter((_, i) => i !== axis));
  for (let o = 0; o < outer; o++) {
    for (let k = 0; k < inner; k++) {
      let at = 0;
      for (let i = 1; i < length; i++) {
        const [best, next] = [numbers[(o * length + at) * inner + k]!, numbers[(o * length + i) * inner + k]!];
        const beats = sign * (next - best);
        if (beats > 0 || (last && beats === 0) || (Number.isNaN(next) && !Number.isNaN(best))) at = i;
      }
      data[o * inner + k] = at;
    }
  }
  return new Whole("int64", call.flag("keepdims") ? shape : shape.filter((_, i) => i !== axis), data);
}

const arg = (sign: 1 | -1): Operator => ({
  since: 1,
  inputs: [1, 1],
  attributes: { axis: int(0), keepdims: int(1), select_last_index: { ...int(0), since: 12 } },
  run: (call) => argExtreme(call, sign),
});

function cumulated(call: Call): Value {
  const x = call.value(0);
  const axis = normalizeAxis(call.number(1), x.rank);
  const { length, inner } = around(x.shape, axis);
  const options = { length, inner, reverse: call.flag("reverse"), exclusive: call.flag("exclusive") };
  if (isFloat(x)) return cumulativeSum({ x }, options);
  const data = wholeArray(x.type, x.shape);
  addUp(x.data, data, options);
  return computed(x.type, x.shape, (i) => data[i]!);
}

function topK(call: Call): Value[] {
  const x = call.value(0);
  const axis = normalizeAxis(call.int("axis"), x.rank);
  const k = call.number(1);
  const { outer, length, inner } = around(x.shape, axis);
  if (!Number.isInteger(k) || k < 0 || k > length) {
    throw new ShapeError({ rule: `k lies in [0, ${length}] for an axis of that length`, got: String(k) });
  }
  const sign = call.flag("largest") ? -1 : 1;
  const shape = x.shape.map((d, i) => (i === axis ? k : d));
  const at = wholeArray("int64", shape);
  const places = new Int32Array(at.length);
  const numbers = numbersIn(x);
  for (let o = 0; o < outer; o++) {
    for (let j = 0; j < inner; j++) {
      const place = (i: number): number => (o * length + i) * inner + j;
      // Equal numbers keep their order: the sort is stable.
      const order = Array.from({ length }, (_, i) => i).sort(
        (a, b) => sign * (numbers[place(a)]! - numbers[place(b)]!),
      );
      for (let i = 0; i < k; i++) {
        at[(o * k + i) * inner + j] = order[i]!;
        places[(o * k + i) * inner + j] = place(order[i]!);
      }
    }
  }
  return [take(x, places, shape), new Whole("int64", shape, at)];
}

function nonZero(call: Call): Whole {
  const x = call.value(0);
  const numbers = numbersIn(x);
  const found: number[] = [];
  for (let i = 0; i < numbers.length; i++) if (numbers[i] !== 0) found.push(i);
  const rank = x.rank;
  const data = wholeArray("int64", [rank, found.length]);
  for (const [j, place] of found.entries()) {
    let rest = place;
    for (let axis = rank - 1; axis >= 0; axis--) {
      data[axis * found.length + j] = rest % x.shape[axis]!;
      rest = Math.floor(rest / x.shape[axis]!);
    }
  }
  return new Whole("int64", [rank, found.length], data);
}

export const reductionOperators: OperatorTable = {
  ...Object.fromEntries(Object.entries(reductions).map(([name, f]) => [name, reduction(f)])),
  ArgMax: arg(1),
  ArgMin: arg(-1),
  CumSum: { since: 11, inputs: [2, 2], attributes: { exclusive: int(0), reverse: int(0) }, run: cumulated },
  TopK: {
    since: 1,
    inputs: [2, 2],
    outputs: 2,
    attributes: { axis: int(-1), largest: { ...int(1), since: 11 }, sorted: { ...int(1), since: 11 } },
    moved: { k: { kind: "int", input: 1, at: 10 } },
    run: topK,
  },
  NonZero: { since: 9, inputs: [1, 1], run: nonZero },
};
