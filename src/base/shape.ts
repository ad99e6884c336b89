import { ShapeError } from "./errors.js";

export type Shape = readonly number[];

export const formatShape = (shape: Shape): string => `[${shape.join(", ")}]`;

export function numberOfElements(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i]!;
  return n;
}

/** Distance in elements between neighbours along each axis of a contiguous tensor. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

export function checkShape(shape: Shape, what = "shape"): void {
  if (!Array.isArray(shape) || !shape.every((d) => Number.isInteger(d) && d >= 0)) {
    throw new ShapeError({
      rule: `${what} must be a list of whole numbers of at least 0`,
      got: Array.isArray(shape) ? formatShape(shape as Shape) : String(shape),
    });
  }
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** NumPy's rule: align right; two lengths fit when they are equal or one of them is 1. */
export function broadcastShapes(a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const da = a[a.length - i] ?? 1;
    const db = b[b.length - i] ?? 1;
    if (da !== db && da !== 1 && db !== 1) {
      throw new ShapeError({
        rule: "Shapes broadcast when, aligned at the right, each pair of lengths is equal or has a 1",
        got: `${formatShape(a)} and ${formatShape(b)}`,
        fix: "Reshape one of them, for example [C] to [C, 1, 1] to meet channels of [N, C, H, W]",
      });
    }
    out[rank - i] = da === 1 ? db : da;
  }
  return out;
}

/** An axis counted from the front; negative ones count from the back as in NumPy. */
export function normalizeAxis(axis: number, rank: number, what = "axis"): number {
  const a = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(a) || a < 0 || a >= rank) {
    throw new ShapeError({ rule: `${what} must lie in [${-rank}, ${rank - 1}] for rank ${rank}`, got: String(axis) });
  }
  return a;
}

/** A set of axes, sorted, without repeats; undefined means all. */
export function normalizeAxes(axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const list = (typeof axes === "number" ? [axes] : [...axes]).map((a) => normalizeAxis(a, rank));
  const unique = [...new Set(list)].sort((x, y) => x - y);
  if (unique.length !== list.length) {
    throw new ShapeError({ rule: "Each axis may be named once", got: formatShape(list) });
  }
  return unique;
}

/** Resolves one -1 in a new shape and checks that the number of elements stays the same. */
export function resolveReshape(from: Shape, to: Shape): number[] {
  const total = numberOfElements(from);
  const unknown = to.filter((d) => d === -1).length;
  const known = to.reduce((n, d) => (d === -1 ? n : n * d), 1);
  const fits = unknown === 0 ? known === total : unknown === 1 && known > 0 && total % known === 0;
  if (!fits || to.some((d) => !Number.isInteger(d) || d < -1)) {
    throw new ShapeError({
      rule: "reshape keeps the number of elements, and at most one length may be -1",
      got: `${formatShape(from)} (${total} elements) to ${formatShape(to)}`,
    });
  }
  return to.map((d) => (d === -1 ? total / known : d));
}
