import { concat, zeros } from "../../../autograd/index.js";
import { ShapeError } from "../../../base/errors.js";
import { contiguousStrides, formatShape, normalizeAxis } from "../../../base/shape.js";
import { int, text } from "../attributes.js";
import { type Call, oneOf } from "../call.js";
import type { OperatorTable } from "../operator.js";
import {
  checkRoom,
  expanded,
  isFloat,
  reshaped,
  stridedPlaces,
  take,
  type Value,
  Whole,
  wholeArray,
} from "../value.js";
import { slicePlan } from "./host_ops.js";
import { sliced } from "./movement.js";

function tile(call: Call): Value {
  const x = call.value(0);
  const repeats = call.list(1);
  if (repeats.length !== x.rank || repeats.some((r) => r < 0)) {
    throw new ShapeError({
      rule: `Tile has a number of repeats for each of ${x.rank} axes`,
      got: formatShape(repeats),
    });
  }
  const shape = x.shape.map((d, i) => d * repeats[i]!);
  checkRoom(shape);
  const apart = x.shape.flatMap((d) => [1, d]);
  const whole = x.shape.flatMap((d, i) => [repeats[i]!, d]);
  return reshaped(expanded(reshaped(x, apart), whole), shape);
}

/** Where an element outside of [0, length) comes from. */
const borders: Readonly<Record<"reflect" | "edge" | "wrap", (i: number, length: number) => number>> = {
  edge: (i, length) => Math.min(length - 1, Math.max(0, i)),
  wrap: (i, length) => ((i % length) + length) % length,
  reflect(i, length) {
    if (length === 1) return 0;
    const round = 2 * (length - 1);
    const place = ((i % round) + round) % round;
    return place < length ? place : round - place;
  },
};

function pad(call: Call): Value {
  const x = call.value(0);
  const axes = call.has(3) ? call.list(3).map((a) => normalizeAxis(a, x.rank)) : [...x.shape.keys()];
  const pads = call.list(1);
  if (pads.length !== 2 * axes.length || !pads.every(Number.isSafeInteger) || new Set(axes).size !== axes.length) {
    throw new ShapeError({
      rule: `Pad has ${2 * axes.length} numbers for axes ${formatShape(axes)}`,
      got: formatShape(pads),
    });
  }
  const widths = x.shape.map((): [number, number] => [0, 0]);
  for (const [i, axis] of axes.entries()) widths[axis] = [pads[i]!, pads[i + axes.length]!];
  const shape = x.shape.map((d, i) => d + widths[i]![0] + widths[i]![1]);
  checkRoom(shape);
  const mode = oneOf("mode", call.text("mode"), ["constant", "reflect", "edge", "wrap"]);
  if (mode === "constant") return padConstant(x, widths, call.has(2) ? call.number(2) : 0);
  let places = Int32Array.of(0);
  for (const [axis, length] of x.shape.entries()) {
    if (length === 0 && shape[axis]! > 0) {
      throw new ShapeError({ rule: `Padding by "${mode}" takes elements that are there`, got: formatShape(x.shape) });
    }
    const next = new Int32Array(places.length * shape[axis]!);
    for (let p = 0; p < places.length; p++) {
      for (let i = 0; i < shape[axis]!; i++) {
        next[p * shape[axis]! + i] = places[p]! * length + borders[mode](i - widths[axis]![0], length);
      }
    }
    places = next;
  }
  return take(x, places, shape);
}

/** Negative widths cut off. */
function padConstant(x: Value, widths: readonly (readonly [number, number])[], value: number): Value {
  const start = widths.map(([before]) => Math.max(0, -before));
  const left = x.shape.map((d, i) => d - start[i]! - Math.max(0, -widths[i]![1]));
  if (left.some((d) => d < 0)) {
    throw new ShapeError({
      rule: "No more is cut off than there is",
      got: `${JSON.stringify(widths)} of ${formatShape(x.shape)}`,
    });
  }
  const part = widths.some((w) => w[0] < 0 || w[1] < 0)
    ? sliced(
        x,
        left,
        start,
        x.shape.map(() => 1),
      )
    : x;
  const more = widths.map(([b, a]): [number, number] => [Math.max(0, b), Math.max(0, a)]);
  if (isFloat(part)) return part.pad(more, value);
  const shape = left.map((d, i) => d + more[i]![0] + more[i]![1]);
  const data = wholeArray(part.type, shape).fill(value);
  const places = stridedPlaces(
    left,
    contiguousStrides(shape),
    slicePlan(
      shape,
      left,
      more.map(([b]) => b),
      left.map(() => 1),
    ).offset,
  );
  for (const [i, place] of places.entries()) data[place] = part.data[i]!;
  return new Whole(part.type, shape, data);
}

/** The part of each matrix on one side of a diagonal. */
function trilu(call: Call): Value {
  const x = call.value(0);
  if (x.rank < 2) throw new ShapeError({ rule: "Trilu takes matrices", got: formatShape(x.shape) });
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const k = call.has(1) ? call.number(1) : 0;
  const upper = call.flag("upper");
  const stays = (i: number): number => {
    const [row, column] = [Math.floor((i % (rows * columns)) / columns), i % columns];
    return (upper ? column - row >= k : column - row <= k) ? i : -1;
  };
  if (!isFloat(x)) {
    const data = wholeArray(x.type, x.shape);
    for (let i = 0; i < data.length; i++) data[i] = stays(i) >= 0 ? x.data[i]! : 0;
    return new Whole(x.type, x.shape, data);
  }
  // A zero stands behind the elements for those that go: infinite ones times 0 would be NaN.
  const behind = concat([x.reshape([x.size]), zeros([1], { dtype: x.dtype, device: x.device })]);
  return take(
    behind,
    Int32Array.from({ length: x.size }, (_, i) => (stays(i) < 0 ? x.size : i)),
    x.shape,
  );
}

export const paddingOperators: OperatorTable = {
  Tile: { since: 6, inputs: [2, 2], run: tile },
  Pad: {
    since: 2,
    inputs: [2, 4],
    attributes: { mode: text("constant") },
    moved: { pads: { kind: "ints", input: 1, at: 11 }, value: { kind: "float", input: 2, at: 11, fallback: 0 } },
    run: pad,
  },
  Trilu: { since: 14, inputs: [1, 2], attributes: { upper: int(1) }, run: trilu },
};
