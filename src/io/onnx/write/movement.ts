import { numberOfElements, type Shape } from "../../../base/shape.js";
import type { Exporter, Translations } from "./exporter.js";
import type { Graph, Value } from "./graph.js";

interface Placement {
  readonly whole: Shape;
  readonly part: Shape;
  readonly start: readonly number[];
}

/** Less than any length: a slice that ends here reaches beyond the first element. */
export const BEFORE_ALL = -(2 ** 31);

const reduction =
  (op: string): Exporter =>
  ({ g, out }, { x }, { axes }: { axes: readonly number[] }) =>
    g.reduce(op, g.cast(x!, g.typeOf(out.dtype)), axes);

/**
 * Elements taken by number at the same places of each plane, as resizing to the nearest does: a list of places of one plane does,
 * whatever the batch. Null for anything else.
 */
function inEachPlane(g: Graph, table: Value, index: Value): Value | null {
  if (!index.constant || table.constant || table.shape[1] !== 1 || index.shape.length !== 2) return null;
  const [planes, count] = index.shape as [number, number];
  const plane = table.shape[0]! / planes;
  const places = Int32Array.from(index.constant.numbers());
  const within = places.subarray(0, count);
  const alike = places.every((place, i) => place === Math.floor(i / count) * plane + within[i % count]!);
  if (!Number.isInteger(plane) || !alike || within.some((place) => place >= plane)) return null;
  const taken = g.gather(g.reshape(table, [planes, plane]), g.list(within, [count], "int32"), 1);
  return g.reshape(taken, [planes, count, 1]);
}

export const movement: Translations = {
  reshape: ({ g, out }, { x }) => g.reshape(x!, out.shape),
  permute: ({ g }, { x }, { order }: { order: readonly number[] }) => g.transpose(x!, order),
  expand: ({ g, out }, { x }) => g.expand(x!, out.shape),
  slice({ g }, { x }, { whole, part, start }: Placement) {
    const axes = whole.flatMap((d, i) => (part[i] === d ? [] : [i]));
    const ends = axes.map((a) => start[a]! + part[a]!);
    return g.slice(
      x!,
      axes,
      axes.map((a) => start[a]!),
      ends,
      part,
    );
  },
  pad({ g }, { x }, { whole, part, start, value }: Placement & { value: number }) {
    const after = whole.map((d, i) => d - part[i]! - start[i]!);
    return g.node("Pad", [x!, g.lengths([...start, ...after]), g.scalar(value, x!.type)], whole, { mode: "constant" });
  },
  concat: ({ g }, parts, { axis }: { axis: number }) => g.concat(Object.values(parts) as Value[], axis),
  flip({ g }, { x }, { axes }: { axes: readonly number[] }) {
    const all = (value: number) => axes.map(() => value);
    return g.slice(x!, axes, all(-1), all(BEFORE_ALL), x!.shape, all(-1));
  },
  sum: reduction("ReduceSum"),
  max: reduction("ReduceMax"),
  min: reduction("ReduceMin"),
  prod: reduction("ReduceProd"),
  arg_max({ g, out }, { x }, { axes }: { axes: readonly number[] }) {
    const shape = x!.shape.map((d, i) => (axes.includes(i) ? 1 : d));
    // Of all elements: as one row.
    const row = axes.length === 1 ? x! : g.reshape(x!, [numberOfElements(x!.shape)]);
    const axis = axes.length === 1 ? axes[0]! : 0;
    const found = g.node(
      "ArgMax",
      [row],
      row.shape.map((d, i) => (i === axis ? 1 : d)),
      { axis, keepdims: 1, type: "int64" },
    );
    return g.reshape(g.cast(found, g.typeOf(out.dtype)), shape);
  },
  embedding: ({ g }, { weight, index }) => inEachPlane(g, weight!, index!) ?? g.gather(weight!, index!),
};
