import type { NumberArray } from "../../base/dtype.js";
import { contiguousStrides, numberOfElements, resolveReshape, type Shape, sameShape } from "../../base/shape.js";
import type { ElementName } from "../elements.js";
import type { FileTensor, TensorInfo } from "../tensor_file.js";

/** How a tensor's numbers are moved: none is changed. */
export type Move =
  | { readonly by: "axes"; readonly axes: readonly number[] }
  | { readonly by: "flip"; readonly axes: readonly number[] }
  | { readonly by: "reshape"; readonly shape: Shape };

type Origin =
  | { readonly from: "file"; readonly name: string; readonly shape: Shape; readonly type: ElementName }
  | { readonly from: "rows"; readonly of: Value; readonly start: number; readonly end: number }
  | { readonly from: "joined"; readonly parts: readonly Value[] }
  | {
      readonly from: "computed";
      readonly shape: Shape;
      readonly parts: readonly Value[];
      readonly type: ElementName;
      readonly compute: (parts: readonly NumberArray[]) => NumberArray;
    };

/** A tensor of the result as what it is made of: planned from shapes alone, computed when its numbers are wanted. */
export interface Value {
  readonly shape: Shape;
  readonly origin: Origin;
  readonly moves: readonly Move[];
}

export const fromFile = (name: string, { shape, type }: TensorInfo): Value => ({
  shape,
  origin: { from: "file", name, shape, type },
  moves: [],
});

export const computed = (
  shape: Shape,
  type: ElementName,
  parts: readonly Value[],
  compute: (parts: readonly NumberArray[]) => NumberArray,
): Value => ({ shape, origin: { from: "computed", shape, parts, type, compute }, moves: [] });

/** Axis i of the result is axis axes[i] of v. Two that undo each other leave nothing to do. */
export function permuted(v: Value, axes: readonly number[]): Value {
  const shape = axes.map((a) => v.shape[a]!);
  const last = v.moves.at(-1);
  const joined = last?.by === "axes" ? axes.map((a) => last.axes[a]!) : [...axes];
  const before = last?.by === "axes" ? v.moves.slice(0, -1) : v.moves;
  const stays = joined.every((a, i) => a === i);
  return { ...v, shape, moves: stays ? before : [...before, { by: "axes", axes: joined }] };
}

/** Backwards along some axes; done twice it is nothing. */
export function flipped(v: Value, axes: readonly number[]): Value {
  if (axes.every((a) => v.shape[a] === 1)) return v;
  const last = v.moves.at(-1);
  if (last?.by === "flip" && sameShape(last.axes, axes)) return { ...v, moves: v.moves.slice(0, -1) };
  return { ...v, moves: [...v.moves, { by: "flip", axes: [...axes] }] };
}

/** Throws ShapeError unless the number of elements stays. */
export function reshaped(v: Value, shape: Shape): Value {
  resolveReshape(v.shape, shape);
  const last = v.moves.at(-1);
  const before = last?.by === "reshape" ? v.moves.slice(0, -1) : v.moves;
  const shapeBefore = before.length === v.moves.length ? v.shape : shapeAfter(v.origin, before);
  return { ...v, shape, moves: sameShape(shapeBefore, shape) ? before : [...before, { by: "reshape", shape }] };
}

/** Rows [start, end) of the first axis. */
export const rowsOf = (v: Value, start: number, end: number): Value =>
  start === 0 && end === v.shape[0]
    ? v
    : { shape: [end - start, ...v.shape.slice(1)], origin: { from: "rows", of: v, start, end }, moves: [] };

/** One below the other along the first axis; what was cut into rows becomes whole again. */
export function joinedRows(parts: readonly Value[]): Value {
  const first = parts[0]!;
  const whole = first.origin.from === "rows" ? first.origin.of : null;
  let at = 0;
  const again = parts.every(({ origin, moves }) => {
    const fits = origin.from === "rows" && origin.of === whole && origin.start === at && moves.length === 0;
    if (origin.from === "rows") at = origin.end;
    return fits;
  });
  if (whole && again && at === whole.shape[0]) return whole;
  const rows = parts.reduce((n, p) => n + p.shape[0]!, 0);
  return { shape: [rows, ...first.shape.slice(1)], origin: { from: "joined", parts }, moves: [] };
}

function shapeAfter(origin: Origin, moves: readonly Move[]): Shape {
  const last = moves.at(-1);
  if (!last) return originShape(origin);
  if (last.by === "reshape") return last.shape;
  const before = shapeAfter(origin, moves.slice(0, -1));
  return last.by === "axes" ? last.axes.map((a) => before[a]!) : before;
}

function originShape(origin: Origin): Shape {
  if (origin.from === "file" || origin.from === "computed") return origin.shape;
  if (origin.from === "rows") return [origin.end - origin.start, ...origin.of.shape.slice(1)];
  return [origin.parts.reduce((n, p) => n + p.shape[0]!, 0), ...origin.parts[0]!.shape.slice(1)];
}

const partsOf = (origin: Origin): readonly Value[] => {
  if (origin.from === "file") return [];
  return origin.from === "rows" ? [origin.of] : origin.parts;
};

/** The tensors of the file that a value is made of, in order, each once. */
export function sourcesOf({ origin }: Value): string[] {
  if (origin.from === "file") return [origin.name];
  return [...new Set(partsOf(origin).flatMap(sourcesOf))];
}

/** The type that its numbers have in the file. */
export function typeOf({ origin }: Value): ElementName {
  if (origin.from === "file" || origin.from === "computed") return origin.type;
  return typeOf(partsOf(origin)[0]!);
}

/** All moves, of its parts too, in words: "axes 3 2 0 1", "flipped on 2 3". Those of parts that are moved alike are said once. */
export function movesOf(v: Value): string[] {
  const inner = partsOf(v.origin).map(movesOf);
  const alike = inner.every((m) => m.join() === inner[0]!.join());
  const of = alike ? (inner[0] ?? []) : inner.flat();
  const own: string[] = v.origin.from === "rows" ? [`rows ${v.origin.start} to ${v.origin.end}`] : [];
  if (v.origin.from === "joined") own.push(`${v.origin.parts.length} joined`);
  return [...of, ...own, ...v.moves.map(words)];
}

function words(move: Move): string {
  if (move.by === "axes") return `axes ${move.axes.join(" ")}`;
  return move.by === "flip" ? `flipped on ${move.axes.join(" ")}` : `shape [${move.shape.join(", ")}]`;
}

/** The numbers of a value, from those of the file's tensors. */
export function numbersFrom(v: Value, given: ReadonlyMap<string, FileTensor>): NumberArray {
  let numbers = originNumbers(v.origin, given);
  let shape = originShape(v.origin);
  for (const move of v.moves) {
    if (move.by === "axes") numbers = permute(numbers, shape, move.axes);
    else if (move.by === "flip") numbers = flip(numbers, shape, move.axes);
    if (move.by === "axes") shape = move.axes.map((a) => shape[a]!);
    else if (move.by === "reshape") shape = move.shape;
  }
  return numbers;
}

function originNumbers(origin: Origin, given: ReadonlyMap<string, FileTensor>): NumberArray {
  if (origin.from === "file") return given.get(origin.name)!.data;
  const parts = partsOf(origin).map((p) => numbersFrom(p, given));
  if (origin.from === "computed") return origin.compute(parts);
  if (origin.from === "rows") {
    const row = numberOfElements(origin.of.shape.slice(1));
    return parts[0]!.subarray(origin.start * row, origin.end * row);
  }
  const out = like(
    parts[0]!,
    parts.reduce((n, p) => n + p.length, 0),
  );
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const like = (numbers: NumberArray, length: number): NumberArray =>
  new (numbers.constructor as new (length: number) => NumberArray)(length);

function permute(numbers: NumberArray, shape: Shape, axes: readonly number[]): NumberArray {
  const strides = contiguousStrides(shape);
  return gather(
    numbers,
    axes.map((a) => shape[a]!),
    axes.map((a) => strides[a]!),
    0,
  );
}

function flip(numbers: NumberArray, shape: Shape, axes: readonly number[]): NumberArray {
  const strides = contiguousStrides(shape);
  let start = 0;
  for (const a of axes) {
    start += (shape[a]! - 1) * strides[a]!;
    strides[a] = -strides[a]!;
  }
  return gather(numbers, shape, strides, start);
}

/** Numbers in the order of `shape`, each found at its place by strides. */
function gather(numbers: NumberArray, shape: Shape, strides: readonly number[], start: number): NumberArray {
  const out = like(numbers, numbers.length);
  const place = new Array<number>(shape.length).fill(0);
  let from = start;
  for (let i = 0; i < out.length; i++) {
    out[i] = numbers[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++place[axis]! < shape[axis]!) break;
      from -= shape[axis]! * strides[axis]!;
      place[axis] = 0;
    }
  }
  return out;
}
