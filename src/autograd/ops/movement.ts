import { DTypeError, ShapeError } from "../../base/errors.js";
import {
  broadcastShapes,
  contiguousStrides,
  formatShape,
  normalizeAxis,
  resolveReshape,
  type Shape,
  sameShape,
} from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { StridedPlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

const reshapeOp = defineOp<{ x: Tensor }, { from: Shape; to: Shape }>({
  name: "reshape",
  forward: ({ x }, { to }) => ({ out: x.shareAs(to) }),
  backward: (dy, _saved, { from }) => ({ x: () => reshape(dy, from) }),
  twiceDifferentiable: true,
});

/** The same numbers under another shape; one length may be -1. Shares storage. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  return reshapeOp({ x }, { from: x.shape, to: resolveReshape(x.shape, shape) });
}

function gathered(x: Tensor, plan: StridedPlan): Tensor {
  const out = Tensor.empty(plan.shape, x.dtype);
  kernels.gather(x.storage, out.storage, plan);
  return out;
}

const permuteOp = defineOp<{ x: Tensor }, { order: readonly number[] }>({
  name: "permute",
  forward({ x }, { order }) {
    const strides = contiguousStrides(x.shape);
    return {
      out: gathered(x, { shape: order.map((a) => x.shape[a]!), strides: order.map((a) => strides[a]!), offset: 0 }),
    };
  },
  backward(dy, _saved, { order }) {
    const inverse = order.map((_, i) => order.indexOf(i));
    return { x: () => permute(dy, inverse) };
  },
  twiceDifferentiable: true,
});

/** Axes in a new order: axis i of the result is axis order[i] of x. A copy. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  const axes = order.map((a) => normalizeAxis(a, x.rank));
  if (axes.length !== x.rank || new Set(axes).size !== x.rank) {
    throw new ShapeError({ rule: `permute names each of the ${x.rank} axes once`, got: formatShape(order) });
  }
  if (axes.every((a, i) => a === i)) return reshape(x, x.shape);
  return permuteOp({ x }, { order: axes });
}

/** Two axes exchanged (the last two by default). */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  const order = x.shape.map((_, i) => i);
  const [i, j] = [normalizeAxis(a, x.rank), normalizeAxis(b, x.rank)];
  order[i] = j;
  order[j] = i;
  return permute(x, order);
}

const expandOp = defineOp<{ x: Tensor }, { from: Shape; to: Shape }>({
  name: "expand",
  forward({ x }, { from, to }) {
    const own = contiguousStrides(from);
    const extra = to.length - from.length;
    const strides = to.map((_, i) => (i < extra || from[i - extra] === 1 ? 0 : own[i - extra]!));
    return { out: gathered(x, { shape: to, strides, offset: 0 }) };
  },
  backward: (dy, _saved, { from }) => ({ x: () => dy.sumTo(from) }),
  twiceDifferentiable: true,
});

/** x repeated along new axes and axes of length 1 until it has `shape`. A copy. */
export function expand(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  if (!sameShape(broadcastShapes(x.shape, shape), shape)) {
    throw new ShapeError({
      rule: "expand repeats axes of length 1",
      got: `${formatShape(x.shape)} to ${formatShape(shape)}`,
    });
  }
  return expandOp({ x }, { from: x.shape, to: shape });
}

interface Placement {
  /** The larger shape, and where in it the smaller one begins. */
  readonly whole: Shape;
  readonly part: Shape;
  readonly start: readonly number[];
}

function placementPlan({ whole, part, start }: Placement): StridedPlan {
  const strides = contiguousStrides(whole);
  return { shape: part, strides, offset: start.reduce((sum, s, i) => sum + s * strides[i]!, 0) };
}

const sliceOp: Op<{ x: Tensor }, Placement, undefined> = defineOp<{ x: Tensor }, Placement>({
  name: "slice",
  forward: ({ x }, place) => ({ out: gathered(x, placementPlan(place)) }),
  backward: (dy, _saved, place) => ({ x: () => placeOp({ x: dy }, { ...place, value: 0 }) }),
  twiceDifferentiable: true,
});

/** x written into a constant tensor of the larger shape: the transpose of slice, and padding. */
const placeOp: Op<{ x: Tensor }, Placement & { value: number }, undefined> = defineOp<
  { x: Tensor },
  Placement & { value: number }
>({
  name: "pad",
  forward({ x }, { value, ...place }) {
    const out = Tensor.empty(place.whole, x.dtype);
    kernels.fill(out.storage, value);
    kernels.scatter(x.storage, out.storage, placementPlan(place));
    return { out };
  },
  backward: (dy, _saved, { value: _, ...place }) => ({ x: () => sliceOp({ x: dy }, place) }),
  twiceDifferentiable: true,
});

/** A block of x: `start` and `size` per axis, size -1 reaching to the end; axes not named are kept whole. */
export function slice(x: Tensor, start: readonly number[], size: readonly number[] = []): Tensor {
  const from = x.shape.map((d, i) => ((start[i] ?? 0) < 0 ? (start[i] ?? 0) + d : (start[i] ?? 0)));
  const part = x.shape.map((d, i) => (size[i] === undefined || size[i] === -1 ? d - from[i]! : size[i]!));
  const fits = x.shape.every((d, i) => from[i]! >= 0 && part[i]! >= 0 && from[i]! + part[i]! <= d);
  if (!fits || start.length > x.rank || size.length > x.rank || ![...from, ...part].every(Number.isInteger)) {
    throw new ShapeError({
      rule: "slice(start, size) must lie inside the tensor",
      got: `start ${formatShape(start)}, size ${formatShape(size)} of shape ${formatShape(x.shape)}`,
    });
  }
  return sliceOp({ x }, { whole: x.shape, part, start: from });
}

/** The elements [start, end) of one axis. */
export function narrow(x: Tensor, axis: number, start: number, length: number): Tensor {
  const a = normalizeAxis(axis, x.rank);
  const starts = x.shape.map((_, i) => (i === a ? start : 0));
  return slice(
    x,
    starts,
    x.shape.map((d, i) => (i === a ? length : d)),
  );
}

/** x with constant borders: one [before, after] pair an axis. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  if (widths.length !== x.rank || widths.some(([b, a]) => !(b >= 0 && a >= 0))) {
    throw new ShapeError({
      rule: `pad takes one [before, after] pair of at least 0 for each of the ${x.rank} axes`,
      got: JSON.stringify(widths),
    });
  }
  const whole = x.shape.map((d, i) => d + widths[i]![0] + widths[i]![1]);
  return placeOp({ x }, { whole, part: x.shape, start: widths.map(([before]) => before), value });
}

/** Tensors joined along an axis; all other lengths and the types must be equal. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new ShapeError({ rule: "concat joins at least one tensor", got: "none" });
  const a = normalizeAxis(axis, first.rank);
  for (const t of tensors) {
    if (t.rank !== first.rank || t.shape.some((d, i) => i !== a && d !== first.shape[i])) {
      throw new ShapeError({
        rule: `concat along axis ${a} needs equal lengths on all other axes`,
        got: tensors.map((u) => formatShape(u.shape)).join(", "),
      });
    }
    if (t.dtype !== first.dtype) {
      throw new DTypeError({ rule: "concat joins tensors of one type", got: `${first.dtype} and ${t.dtype}` });
    }
  }
  return concatOp(Object.fromEntries(tensors.map((t, i) => [String(i), t])), { axis: a });
}

const concatOp = defineOp<Record<string, Tensor>, { axis: number }, Record<string, Tensor>>({
  name: "concat",
  forward(parts, { axis }) {
    const list = Object.values(parts);
    const whole = list[0]!.shape.map((d, i) => (i === axis ? list.reduce((n, t) => n + t.shape[axis]!, 0) : d));
    const out = Tensor.empty(whole, list[0]!.dtype);
    for (const { part, place } of placements(list, whole, axis)) {
      kernels.scatter(part.storage, out.storage, placementPlan(place));
    }
    return { out, saved: parts };
  },
  backward(dy, parts, { axis }) {
    const places = placements(Object.values(parts), dy.shape, axis);
    return Object.fromEntries(Object.keys(parts).map((name, i) => [name, () => sliceOp({ x: dy }, places[i]!.place)]));
  },
  twiceDifferentiable: true,
});

function placements(parts: readonly Tensor[], whole: Shape, axis: number): { part: Tensor; place: Placement }[] {
  let at = 0;
  return parts.map((part) => {
    const start = whole.map((_, i) => (i === axis ? at : 0));
    at += part.shape[axis]!;
    return { part, place: { whole, part: part.shape, start } };
  });
}

/** Tensors of one shape joined along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const rank = (tensors[0]?.rank ?? 0) + 1;
  const a = normalizeAxis(axis, rank);
  return concat(
    tensors.map((t) => reshape(t, [...t.shape.slice(0, a), 1, ...t.shape.slice(a)])),
    a,
  );
}

const flipOp: Op<{ x: Tensor }, { axes: readonly number[] }, undefined> = defineOp<
  { x: Tensor },
  { axes: readonly number[] }
>({
  name: "flip",
  forward({ x }, { axes }) {
    const own = contiguousStrides(x.shape);
    const offset = axes.reduce((sum, a) => sum + Math.max(0, x.shape[a]! - 1) * own[a]!, 0);
    const strides = own.map((s, i) => (axes.includes(i) ? -s : s));
    return { out: gathered(x, { shape: x.shape, strides, offset }) };
  },
  backward: (dy, _saved, options) => ({ x: () => flipOp({ x: dy }, options) }),
  twiceDifferentiable: true,
});

/** The elements of the named axes in reverse order. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  const list = (typeof axes === "number" ? [axes] : axes).map((a) => normalizeAxis(a, x.rank));
  return flipOp({ x }, { axes: list });
}
