import { Random } from "../../src/base/random.js";
import type { RowView } from "../../src/norm/views.js";

/** Operands for rows that `row` makes, one after another: the same for equal seeds. */
export function draw(view: RowView, seed: number, row: (random: Random, r: number) => number[]) {
  const random = new Random(seed);
  const elements = (view.groups * view.size) / view.inner;
  const floats = (n: number, f: () => number) => Float32Array.from({ length: n }, f);
  return {
    x: Float32Array.from(Array.from({ length: view.rows }, (_, r) => row(random, r)).flat()),
    dy: floats(view.rows * view.size, () => random.normal()),
    weight: floats(elements, () => 1 + 0.3 * random.normal()),
    bias: floats(elements, () => random.normal()),
  };
}
