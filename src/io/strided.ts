import type { NumberArray } from "../base/dtype.js";

/**
 * Numbers in row-major order (the array itself where it has them so) out of an array in which each axis has a step of its own (in elements, from `offset` on), as transposed
 * arrays and views are saved. The caller has checked that all places are within.
 */
export function rowMajor<A extends NumberArray>(
  from: A,
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): A {
  const size = shape.reduce((n, d) => n * d, 1);
  if (isRowMajor(shape, strides))
    return offset === 0 && size === from.length ? from : (from.slice(offset, offset + size) as A);
  const to = new (from.constructor as new (length: number) => A)(size);
  const last = shape.length - 1;
  const [length, step] = [shape[last] ?? 1, strides[last] ?? 1];
  const index = new Array<number>(shape.length).fill(0);
  let place = offset;
  for (let done = 0; done < size; ) {
    for (let i = 0; i < length; i++) to[done++] = from[place + i * step]!;
    for (let axis = last - 1; axis >= 0; axis--) {
      place += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      place -= index[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return to;
}

/** Axes of one element may have any step. */
function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== step) return false;
    step *= shape[axis]!;
  }
  return true;
}

/** The steps of an array whose first axis runs fastest, as in Fortran. */
export function columnMajorStrides(shape: readonly number[]): number[] {
  let step = 1;
  return shape.map((extent) => {
    const own = step;
    step *= extent;
    return own;
  });
}
