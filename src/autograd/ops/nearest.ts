import { ShapeError } from "../../base/errors.js";
import { formatShape, numberOfElements, type Shape, sameShape } from "../../base/shape.js";
import type { Tensor } from "../tensor.js";
import { written } from "../written.js";
import { embedding } from "./embedding.js";

/**
 * Spatial axes resized by taking the nearest element: y[.., i, ..] = x[.., floor(i * in / out), ..] along each of them,
 * in exact arithmetic. Any ratio, up or down; the gradient adds up where elements were repeated.
 *
 * Shapes: x [N, C, ...space], y [N, C, ...size].
 * Throws: ShapeError if `size` has another number of axes, or a length of 0.
 */
export function nearest(x: Tensor, size: Shape): Tensor {
  const space = x.shape.slice(2);
  if (sameShape(space, size)) return x;
  if (x.rank < 3 || size.length !== space.length || [...space, ...size].some((d) => d < 1)) {
    throw new ShapeError({
      rule: `Resizing takes [N, C, ...space] and one length of at least 1 for each spatial axis`,
      got: `shape ${formatShape(x.shape)} to ${formatShape(size)}`,
    });
  }
  const lead = x.shape.slice(0, 2);
  const within = positions(space, size);
  const [planes, plane] = [numberOfElements(lead), numberOfElements(space)];
  const index = written([planes, numberOfElements(size)], "int32", (to) => {
    for (let p = 0; p < planes; p++) {
      for (let i = 0; i < within.length; i++) to[p * within.length + i] = p * plane + within[i]!;
    }
  });
  return embedding(index, x.reshape([x.size, 1])).reshape([...lead, ...size]);
}

/** For each element of an output plane, the place in the input plane that it is taken from. */
function positions(space: Shape, size: Shape): Int32Array {
  let places = new Int32Array(1);
  for (const [axis, to] of size.entries()) {
    const from = space[axis]!;
    const next = new Int32Array(places.length * to);
    for (let p = 0; p < places.length; p++) {
      for (let i = 0; i < to; i++) next[p * to + i] = places[p]! * from + Math.floor((i * from) / to);
    }
    places = next;
  }
  return places;
}
