import { concat, type Tensor, tensor } from "../../../autograd/index.js";
import { DTypeError, ShapeError } from "../../../base/errors.js";
import {
  contiguousStrides,
  formatShape,
  normalizeAxis,
  numberOfElements,
  type Shape,
  sameShape,
} from "../../../base/shape.js";
import { type Attributes, int, text } from "../attributes.js";
import type { Call } from "../call.js";
import type { OperatorTable } from "../operator.js";
import {
  checkOneType,
  checkRoom,
  computed,
  isFloat,
  numbersIn,
  stridedPlaces,
  take,
  type Value,
  type Whole,
} from "../value.js";
import { addedAt } from "./host_ops.js";

/** An index from the front; negative ones count from the back. Throws ShapeError outside of the axis. */
function inside(index: number, length: number): number {
  const i = index < 0 ? index + length : index;
  if (Number.isInteger(i) && i >= 0 && i < length) return i;
  throw new ShapeError({ rule: `Indices lie in [${-length}, ${length - 1}]`, got: String(index) });
}

function gather(call: Call): Value {
  const [x, indices] = [call.value(0), call.whole(1)];
  const axis = normalizeAxis(call.int("axis"), x.rank);
  const [outer, inner] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
  const [blocks, length] = [numberOfElements(outer), x.shape[axis]!];
  const shape = [...outer, ...indices.shape, ...inner];
  checkRoom(shape);
  checkRoom([blocks, indices.size], true);
  const rows = new Int32Array(blocks * indices.size);
  for (let b = 0; b < blocks; b++) {
    for (let i = 0; i < indices.size; i++) rows[b * indices.size + i] = b * length + inside(indices.data[i]!, length);
  }
  return take(x, rows, shape, numberOfElements(inner));
}

/** Places in x of shape `from` where each element of `indices` points to along an axis, its other coordinates kept. */
function alongAxis(from: Shape, indices: Whole, axis: number): Int32Array {
  const { shape, data } = indices;
  if (shape.length !== from.length || shape.some((d, i) => i !== axis && d > from[i]!)) {
    throw new ShapeError({ rule: `Indices reach no further than ${formatShape(from)}`, got: formatShape(shape) });
  }
  const strides = contiguousStrides(from);
  const places = stridedPlaces(
    shape,
    strides.map((s, i) => (i === axis ? 0 : s)),
  );
  for (let i = 0; i < places.length; i++) places[i]! += inside(data[i]!, from[axis]!) * strides[axis]!;
  return places;
}

/** Rows of x that tuples of indices name, after `batch` leading axes that both share; and their shape. */
function byTuples(x: Shape, indices: Whole, batch: number): { rows: Int32Array; lead: Shape; row: Shape } {
  const { shape, data } = indices;
  const tuple = shape[shape.length - 1] ?? 0;
  const sound = shape.length > batch && batch >= 0 && batch + tuple <= x.length;
  if (!sound || !sameShape(shape.slice(0, batch), x.slice(0, batch))) {
    const rule = `Tuples of indices name elements of ${formatShape(x)} behind ${batch} leading axes`;
    throw new ShapeError({ rule, got: `indices of shape ${formatShape(shape)}` });
  }
  const axes = x.slice(batch, batch + tuple);
  const lead = shape.slice(0, -1);
  const count = checkRoom(lead, true);
  const perBatch = count / Math.max(1, numberOfElements(shape.slice(0, batch)));
  const rows = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    let row = Math.floor(i / perBatch);
    for (let k = 0; k < tuple; k++) row = row * axes[k]! + inside(data[i * tuple + k]!, axes[k]!);
    rows[i] = row;
  }
  return { rows, lead, row: x.slice(batch + tuple) };
}

function gatherND(call: Call): Value {
  const x = call.value(0);
  const { rows, lead, row } = byTuples(x.shape, call.whole(1), call.int("batch_dims"));
  return take(x, rows, [...lead, ...row], numberOfElements(row));
}

/** x with `updates` at places of it, or added there. A place that comes twice keeps the later of the two. */
function scattered(x: Value, places: Int32Array, updates: Value, reduction: string): Value {
  checkOneType([x, updates]);
  if (updates.size !== places.length) {
    throw new ShapeError({ rule: `There are updates for ${places.length} places`, got: String(updates.size) });
  }
  if (isFloat(x)) return scatteredTensor(x, places, (updates as Tensor).cast(x.dtype), reduction === "add");
  const data = x.data.slice();
  const from = numbersIn(updates);
  for (const [i, place] of places.entries()) data[place] = reduction === "add" ? data[place]! + from[i]! : from[i]!;
  return computed(x.type, x.shape, (i) => data[i]!);
}

function scatteredTensor(x: Tensor, places: Int32Array, updates: Tensor, add: boolean): Tensor {
  const [flat, more] = [x.reshape([x.size]), updates.reshape([updates.size])];
  if (add) {
    const at = tensor(places, { dtype: "int32", device: x.device });
    return addedAt({ x: flat, updates: more, places: at }, {}).reshape(x.shape);
  }
  const from = Int32Array.from({ length: x.size }, (_, i) => i);
  for (const [i, place] of places.entries()) from[place] = x.size + i;
  return take(concat([flat, more]), from, x.shape) as Tensor;
}

function scatterElements(call: Call): Value {
  const x = call.value(0);
  const places = alongAxis(x.shape, call.whole(1), normalizeAxis(call.int("axis"), x.rank));
  if (!sameShape(call.value(2).shape, call.whole(1).shape)) {
    const rule = `Updates have the indices' shape ${formatShape(call.whole(1).shape)}`;
    throw new ShapeError({ rule, got: formatShape(call.value(2).shape) });
  }
  return scattered(x, places, call.value(2), call.attribute<string>("reduction") ?? "none");
}

function scatterND(call: Call): Value {
  const x = call.value(0);
  const { rows, row } = byTuples(x.shape, call.whole(1), 0);
  const width = numberOfElements(row);
  checkRoom([rows.length, width], true);
  const places = new Int32Array(rows.length * width);
  for (let i = 0; i < places.length; i++) places[i] = rows[Math.floor(i / width)]! * width + (i % width);
  return scattered(x, places, call.value(2), call.attribute<string>("reduction") ?? "none");
}

function oneHot(call: Call): Value {
  const [indices, values] = [call.value(0), call.value(2)];
  const depth = call.number(1);
  if (!Number.isSafeInteger(depth) || depth < 1 || values.size !== 2) {
    throw new DTypeError({
      rule: "OneHot has a depth of at least 1, and two values",
      got: `${depth} and ${values.size}`,
    });
  }
  const axis = call.int("axis");
  const at = axis === indices.rank ? axis : normalizeAxis(axis, indices.rank + 1);
  const shape = [...indices.shape.slice(0, at), depth, ...indices.shape.slice(at)];
  const size = checkRoom(shape);
  const inner = numberOfElements(indices.shape.slice(at));
  const numbers = numbersIn(indices);
  const on = new Int32Array(size);
  for (let i = 0; i < indices.size; i++) {
    const index = numbers[i]! < 0 ? numbers[i]! + depth : numbers[i]!;
    if (index >= 0 && index < depth) on[(Math.floor(i / inner) * depth + Math.floor(index)) * inner + (i % inner)] = 1;
  }
  return take(values, on, shape);
}

const reduction = { ...text("none"), since: 16 };
const lacks = (attributes: Attributes): string | null => {
  const word = attributes.get("reduction") ?? "none";
  return word === "none" || word === "add" ? null : `reduction ${JSON.stringify(word)}`;
};

export const indexingOperators: OperatorTable = {
  Gather: { since: 1, inputs: [2, 2], attributes: { axis: int(0) }, learned: [0], run: gather },
  GatherElements: {
    since: 11,
    inputs: [2, 2],
    attributes: { axis: int(0) },
    run(call) {
      const x = call.value(0);
      const indices = call.whole(1);
      return take(x, alongAxis(x.shape, indices, normalizeAxis(call.int("axis"), x.rank)), indices.shape);
    },
  },
  GatherND: { since: 11, inputs: [2, 2], attributes: { batch_dims: { ...int(0), since: 12 } }, run: gatherND },
  Scatter: { since: 9, until: 11, inputs: [3, 3], attributes: { axis: int(0) }, run: scatterElements },
  ScatterElements: { since: 11, inputs: [3, 3], attributes: { axis: int(0), reduction }, lacks, run: scatterElements },
  ScatterND: { since: 11, inputs: [3, 3], attributes: { reduction }, lacks, run: scatterND },
  OneHot: { since: 9, inputs: [3, 3], attributes: { axis: int(-1) }, run: oneHot },
};
