import { full, type Tensor } from "../../../autograd/index.js";
import { avgPool } from "../../../autograd/ops/avg_pool.js";
import { conv } from "../../../autograd/ops/conv.js";
import { maxPool } from "../../../autograd/ops/max_pool.js";
import { ShapeError } from "../../../base/errors.js";
import { checkPositiveInteger } from "../../../base/options.js";
import { contiguousStrides, formatShape, numberOfElements, type Shape } from "../../../base/shape.js";
import { int, needed, optional } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import { computed, numbersIn, stridedPlaces, type Value, type Whole } from "../value.js";
import { padSpatial, reachOf, spatialAxes, symmetric, type Windows, windowAttributes, windowsOf } from "./windows.js";

/** The windows of a pool, and what hangs over the end of x and its padding where the number of windows is rounded up. */
interface Pool extends Windows {
  /** [before, after] with what hangs over; pads are those that the node names. */
  readonly reached: readonly (readonly [number, number])[];
}

function poolOf(call: Call, x: Tensor): Pool {
  const windows = windowsOf(call, x, null);
  const reach = reachOf(windows);
  const reached = windows.pads.map(([before, after], i): [number, number] => {
    const [length, stride] = [x.shape[i + 2]!, windows.stride[i]!];
    const room = length + before + after - reach[i]!;
    if (room < 0) {
      const rule = `A window of length ${reach[i]} fits into the input with its padding`;
      throw new ShapeError({ rule, got: `length ${length}, padding ${before} and ${after}` });
    }
    if (!call.flag("ceil_mode")) return [before, after];
    let count = Math.ceil(room / stride) + 1;
    // A window that would begin behind the input, in the padding there, is left out.
    if ((count - 1) * stride >= length + before) count--;
    return [before, Math.max(after, (count - 1) * stride + reach[i]! - length - before)];
  });
  return { ...windows, reached };
}

/** Padding that the pooling kernels take themselves: the same on both sides, and at most half a window. */
const within = ({ reached, kernel }: Pool): boolean =>
  symmetric(reached) && reached.every(([before], i) => before <= kernel[i]! / 2);

function maxPooling(call: Call): Value | Value[] {
  const x = call.tensor(0);
  const pool = poolOf(call, x);
  const y = largest(x, pool);
  return call.outputs > 1 ? [y, winners(x, pool, y.shape, call.int("storage_order"))] : y;
}

/**
 * Places of the winners in x as a whole, int64: the first of equal ones. With `order` 1 the spatial axes of a place are counted from the
 * first to the last, as columns of memory.
 */
function winners(x: Tensor, { kernel, stride, dilation, pads }: Pool, shape: Shape, order: number): Whole {
  const numbers = numbersIn(x);
  const [space, counts] = [x.shape.slice(2), shape.slice(2)];
  const strides = order === 1 ? contiguousStrides([...space].reverse()).reverse() : contiguousStrides(space);
  const [own, windows, plane] = [contiguousStrides(space), numberOfElements(counts), numberOfElements(space)];
  const offsets = stridedPlaces(kernel, contiguousStrides(kernel));
  const coordinate = (i: number, lengths: Shape, axis: number): number =>
    Math.floor(i / numberOfElements(lengths.slice(axis + 1))) % lengths[axis]!;
  return computed("int64", shape, (i) => {
    const start = Math.floor(i / windows) * plane;
    const begin = counts.map((_, a) => coordinate(i % windows, counts, a) * stride[a]! - pads[a]![0]);
    let [best, place] = [Number.NEGATIVE_INFINITY, 0];
    for (const o of offsets) {
      const at = begin.map((b, a) => b + coordinate(o, kernel, a) * dilation[a]!);
      if (at.some((c, a) => c < 0 || c >= space[a]!)) continue;
      const value = numbers[start + at.reduce((sum, c, a) => sum + c * own[a]!, 0)]!;
      if (value > best) [best, place] = [value, at.reduce((sum, c, a) => sum + c * strides[a]!, 0)];
    }
    return start + place;
  });
}

function largest(x: Tensor, pool: Pool): Tensor {
  const { kernel, stride, dilation, reached } = pool;
  const axes = spatialAxes(x);
  if (within(pool)) {
    return maxPool(x, kernel, axes, { stride, dilation, padding: reached.map(([before]) => before) });
  }
  return maxPool(padSpatial(x, reached, Number.NEGATIVE_INFINITY), kernel, axes, { stride, dilation });
}

/** Means over windows of an x that is padded already. A dilated window is a convolution of each channel by itself. */
function means(x: Tensor, { kernel, stride, dilation }: Windows): Tensor {
  const axes = spatialAxes(x);
  if (dilation.every((d) => d === 1)) return avgPool(x, kernel, axes, { stride });
  const channels = x.shape[1]!;
  const weight = full([channels, 1, ...kernel], 1 / numberOfElements(kernel), { dtype: x.dtype });
  return conv(x, weight, null, { stride, dilation, groups: channels });
}

function averagePooling(call: Call): Tensor {
  const x = call.tensor(0);
  const pool = poolOf(call, x);
  const { kernel, stride, dilation, pads, reached } = pool;
  const countIncludePad = call.flag("count_include_pad");
  const undilated = dilation.every((d) => d === 1);
  const overhangs = reached.some(([, after], i) => after > pads[i]![1]);
  if (undilated && within(pool) && !overhangs) {
    const padding = reached.map(([before]) => before);
    return avgPool(x, kernel, spatialAxes(x), { stride, padding, countIncludePad });
  }
  const sums = means(padSpatial(x, reached), pool);
  if (reached.every(([b, a]) => b === 0 && a === 0)) return sums;
  // The share of each window that counts: the input, the padding if it is asked for, never what hangs over.
  const counted = full([1, 1, ...x.shape.slice(2)], 1, { dtype: x.dtype });
  const over = reached.map(([, after], i): [number, number] => [0, after - pads[i]![1]]);
  const mask = countIncludePad ? padSpatial(padSpatial(counted, pads, 1), over) : padSpatial(counted, reached);
  return sums.div(means(mask, pool));
}

/** (sum of |x|^p)^(1/p) */
function lpPooling(call: Call): Tensor {
  const x = call.tensor(0);
  const p = checkPositiveInteger("p", call.int("p"));
  const pool = poolOf(call, x);
  const size = numberOfElements(pool.kernel);
  return root(means(padSpatial(power(x, p), pool.reached), pool).mul(size), p);
}

const power = (x: Tensor, p: number): Tensor => (p === 1 ? x.abs() : p === 2 ? x.square() : x.abs().pow(p));
const root = (x: Tensor, p: number): Tensor => (p === 1 ? x : p === 2 ? x.sqrt() : x.pow(1 / p));

function spatial(x: Tensor): number[] {
  if (x.rank >= 3) return x.shape.map((_, i) => i).slice(2);
  throw new ShapeError({ rule: "Global pools take [N, C, ...]", got: formatShape(x.shape) });
}

const attributes = {
  ...windowAttributes,
  kernel_shape: needed("ints"),
  ceil_mode: { ...int(0), since: 10 },
};

export const poolOperators: OperatorTable = {
  MaxPool: {
    since: 8,
    inputs: [1, 1],
    outputs: 2,
    attributes: { ...attributes, dilations: optional("ints", { since: 10 }), storage_order: int(0) },
    run: maxPooling,
  },
  AveragePool: {
    since: 7,
    inputs: [1, 1],
    attributes: { ...attributes, dilations: optional("ints", { since: 19 }), count_include_pad: int(0) },
    run: averagePooling,
  },
  LpPool: {
    since: 2,
    inputs: [1, 1],
    attributes: {
      ...attributes,
      ceil_mode: { ...int(0), since: 18 },
      dilations: optional("ints", { since: 18 }),
      p: int(2),
    },
    run: lpPooling,
  },
  GlobalAveragePool: {
    since: 1,
    inputs: [1, 1],
    run: (call) => call.tensor(0).mean(spatial(call.tensor(0)), true),
  },
  GlobalMaxPool: {
    since: 1,
    inputs: [1, 1],
    run: (call) => call.tensor(0).max(spatial(call.tensor(0)), true),
  },
  GlobalLpPool: {
    since: 2,
    inputs: [1, 1],
    attributes: { p: int(2) },
    run(call) {
      const x = call.tensor(0);
      const p = checkPositiveInteger("p", call.int("p"));
      return root(power(x, p).sum(spatial(x), true), p);
    },
  },
};
