import { concat, type Tensor } from "../../../autograd/index.js";
import { ShapeError } from "../../../base/errors.js";
import {
  broadcastShapes,
  formatShape,
  normalizeAxes,
  normalizeAxis,
  numberOfElements,
  type Shape,
} from "../../../base/shape.js";
import { int, ints, needed, text } from "../attributes.js";
import { type Call, oneOf } from "../call.js";
import type { OperatorTable } from "../operator.js";
import {
  checkOneType,
  checkRoom,
  expanded,
  isFloat,
  permuted,
  reshaped,
  stridedPlaces,
  take,
  type Value,
  Whole,
  wholeArray,
} from "../value.js";
import { slicePlan, strided } from "./host_ops.js";

function reshape(call: Call): Value {
  const x = call.value(0);
  const wanted = call.list(1);
  // 0 keeps the input's length, unless allowzero says that it means 0.
  const zero = call.attribute<number>("allowzero") ? () => 0 : (i: number) => x.shape[i] ?? 0;
  const shape = wanted.map((d, i) => (d === 0 ? zero(i) : d));
  const unknown = shape.indexOf(-1);
  if (unknown >= 0) {
    const rest = numberOfElements(shape.filter((_, i) => i !== unknown));
    shape[unknown] = rest === 0 ? 0 : x.size / rest;
  }
  if (!shape.every((d) => Number.isSafeInteger(d) && d >= 0) || numberOfElements(shape) !== x.size) {
    const got = `${formatShape(x.shape)} to ${formatShape(wanted)}`;
    throw new ShapeError({ rule: "Reshape keeps the number of elements", got });
  }
  return reshaped(x, shape);
}

function transpose(call: Call): Value {
  const x = call.value(0);
  const order = call.ints("perm") ?? [...x.shape.keys()].reverse();
  if (order.length !== x.rank || [...order].sort((a, b) => a - b).some((a, i) => a !== i)) {
    throw new ShapeError({ rule: `perm names each of the ${x.rank} axes once`, got: formatShape(order) });
  }
  return permuted(x, order);
}

function joined(call: Call): Value {
  const values = call.values();
  checkOneType(values);
  const [first] = values as [Value];
  const axis = normalizeAxis(call.int("axis"), first.rank);
  if (isFloat(first))
    return concat(
      values.map((v) => (v as Tensor).cast(first.dtype)),
      axis,
    );
  const list = values as Whole[];
  for (const { shape } of list) {
    if (shape.length === first.rank && shape.every((d, i) => i === axis || d === first.shape[i])) continue;
    const got = list.map((v) => formatShape(v.shape)).join(", ");
    throw new ShapeError({ rule: `Joining along axis ${axis} needs equal lengths on all others`, got });
  }
  const shape = first.shape.map((d, i) => (i === axis ? list.reduce((n, v) => n + v.shape[axis]!, 0) : d));
  const data = wholeArray(first.type, shape);
  const inner = numberOfElements(shape.slice(axis + 1));
  let at = 0;
  for (let o = 0; o < numberOfElements(shape.slice(0, axis)); o++) {
    for (const v of list) {
      const run = v.shape[axis]! * inner;
      data.set(v.data.subarray(o * run, (o + 1) * run) as never, at);
      at += run;
    }
  }
  return new Whole(first.type, shape, data);
}

/** `shape` elements of x from `start` on in `steps`. */
export function sliced(x: Value, shape: Shape, start: readonly number[], steps: readonly number[]): Value {
  checkRoom(shape);
  if (numberOfElements(shape) === 0) return take(x, new Int32Array(0), shape);
  const plan = slicePlan(x.shape, shape, start, steps);
  if (!isFloat(x)) return take(x, stridedPlaces(shape, plan.strides, plan.offset), shape);
  return steps.every((s) => s === 1) ? x.slice(start, shape) : strided({ x }, { from: x.shape, plan });
}

function slice(call: Call): Value {
  const x = call.value(0);
  const [starts, ends] = [call.list(1), call.list(2)];
  const axes = (call.optionalList(3) ?? starts.map((_, i) => i)).map((a) => normalizeAxis(a, x.rank));
  const steps = call.optionalList(4) ?? starts.map(() => 1);
  const equal = [ends, axes, steps].every((l) => l.length === starts.length) && new Set(axes).size === axes.length;
  if (!equal || steps.some((s) => s === 0)) {
    const got = [starts, ends, axes, steps].map(formatShape).join(", ");
    throw new ShapeError({ rule: "Slice has a start, an end and a step other than 0 for each axis, each once", got });
  }
  const [from, by, shape] = [x.shape.map(() => 0), x.shape.map(() => 1), [...x.shape]];
  for (const [i, axis] of axes.entries()) {
    const length = x.shape[axis]!;
    const step = Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, steps[i]!));
    const place = (v: number): number => {
      const counted = v < 0 ? v + length : v;
      return step > 0 ? Math.min(length, Math.max(0, counted)) : Math.min(length - 1, Math.max(-1, counted));
    };
    const [start, end] = [place(starts[i]!), place(ends[i]!)];
    from[axis] = Math.max(0, start);
    by[axis] = step;
    shape[axis] = Math.max(0, Math.ceil((end - start) / step));
  }
  return sliced(x, shape, from, by);
}

function split(call: Call): Value[] {
  const x = call.value(0);
  const axis = normalizeAxis(call.int("axis"), x.rank);
  const length = x.shape[axis]!;
  const asked = call.attribute<number>("num_outputs");
  const parts = asked ?? call.outputs;
  if (!Number.isInteger(parts) || parts < 1 || parts > Math.max(length, call.outputs)) {
    throw new ShapeError({ rule: `Split makes 1 to ${length} parts`, got: String(parts) });
  }
  // The last part is the smaller one where the length does not divide.
  const each = Math.ceil(length / parts);
  const even = (_: unknown, i: number): number => Math.max(0, Math.min(each, length - i * each));
  const lengths = call.optionalList(1) ?? Array.from({ length: parts }, even);
  if (lengths.some((l) => l < 0) || lengths.reduce((a, b) => a + b, 0) !== length) {
    throw new ShapeError({ rule: `The parts add up to the axis' length ${length}`, got: formatShape(lengths) });
  }
  let at = 0;
  return lengths.map((part) => {
    const start = x.shape.map((_, i) => (i === axis ? at : 0));
    at += part;
    const shape = x.shape.map((d, i) => (i === axis ? part : d));
    return sliced(
      x,
      shape,
      start,
      x.shape.map(() => 1),
    );
  });
}

function squeeze(call: Call): Value {
  const x = call.value(0);
  const given = call.optionalList(1);
  const axes = given ? normalizeAxes(given, x.rank) : [...x.shape.keys()].filter((i) => x.shape[i] === 1);
  if (axes.some((a) => x.shape[a] !== 1)) {
    throw new ShapeError({
      rule: "Squeeze takes out axes of length 1",
      got: `${formatShape(axes)} of ${formatShape(x.shape)}`,
    });
  }
  return reshaped(
    x,
    x.shape.filter((_, i) => !axes.includes(i)),
  );
}

function unsqueeze(call: Call): Value {
  const x = call.value(0);
  const list = call.list(1);
  const axes = normalizeAxes(list, x.rank + list.length);
  const rest = [...x.shape];
  return reshaped(
    x,
    Array.from({ length: x.rank + axes.length }, (_, i) => (axes.includes(i) ? 1 : rest.shift()!)),
  );
}

function flatten(call: Call): Value {
  const x = call.value(0);
  const at = call.int("axis");
  const axis = at === x.rank ? at : normalizeAxis(at, x.rank);
  return reshaped(x, [x.shape.slice(0, axis), x.shape.slice(axis)].map(numberOfElements));
}

function blocks(call: Call, x: Value): number {
  const size = call.int("blocksize");
  if (x.rank === 4 && Number.isInteger(size) && size >= 1) return size;
  throw new ShapeError({
    rule: "Blocks of at least 1 are taken of [N, C, H, W]",
    got: `${size} of ${formatShape(x.shape)}`,
  });
}

function depthToSpace(call: Call): Value {
  const x = call.value(0);
  const b = blocks(call, x);
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const deep = oneOf("mode", call.text("mode"), ["DCR", "CRD"]) === "DCR";
  const split = deep ? [n, b, b, c / b ** 2, h, w] : [n, c / b ** 2, b, b, h, w];
  const moved = permuted(reshaped(x, split), deep ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3]);
  return reshaped(moved, [n, c / b ** 2, h * b, w * b]);
}

function spaceToDepth(call: Call): Value {
  const x = call.value(0);
  const b = blocks(call, x);
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const moved = permuted(reshaped(x, [n, c, h / b, b, w / b, b]), [0, 3, 5, 1, 2, 4]);
  return reshaped(moved, [n, c * b ** 2, h / b, w / b]);
}

export const movementOperators: OperatorTable = {
  Reshape: {
    since: 5,
    inputs: [2, 2],
    attributes: { allowzero: { ...int(0), since: 14 } },
    passes: true,
    run: reshape,
  },
  Transpose: { since: 1, inputs: [1, 1], attributes: { perm: ints() }, passes: true, run: transpose },
  Concat: { since: 4, inputs: [1, Number.POSITIVE_INFINITY], attributes: { axis: needed("int") }, run: joined },
  Slice: {
    since: 1,
    inputs: [3, 5],
    moved: {
      starts: { kind: "ints", input: 1, at: 10 },
      ends: { kind: "ints", input: 2, at: 10 },
      axes: { kind: "ints", input: 3, at: 10 },
    },
    run: slice,
  },
  Split: {
    since: 2,
    inputs: [1, 2],
    outputs: Number.POSITIVE_INFINITY,
    attributes: { axis: int(0), num_outputs: { kind: "int", since: 18 } },
    moved: { split: { kind: "ints", input: 1, at: 13 } },
    run: split,
  },
  Squeeze: {
    since: 1,
    inputs: [1, 2],
    moved: { axes: { kind: "ints", input: 1, at: 13 } },
    passes: true,
    run: squeeze,
  },
  Unsqueeze: {
    since: 1,
    inputs: [2, 2],
    moved: { axes: { kind: "ints", input: 1, at: 13 } },
    passes: true,
    run: unsqueeze,
  },
  Flatten: { since: 9, inputs: [1, 1], attributes: { axis: int(1) }, passes: true, run: flatten },
  Expand: {
    since: 8,
    inputs: [2, 2],
    passes: true,
    run(call) {
      const x = call.value(0);
      const shape = call.list(1);
      checkRoom(shape);
      return expanded(x, broadcastShapes(x.shape, shape));
    },
  },
  DepthToSpace: {
    since: 1,
    inputs: [1, 1],
    attributes: { blocksize: needed("int"), mode: { ...text("DCR"), since: 11 } },
    run: depthToSpace,
  },
  SpaceToDepth: { since: 1, inputs: [1, 1], attributes: { blocksize: needed("int") }, run: spaceToDepth },
};
