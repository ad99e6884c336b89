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

/** Normal values with a standard deviation of 1. */
export const normal = (random: Random, n: number, mean: number): number[] =>
  Array.from({ length: n }, () => mean + random.normal());

/** Rows that sums and shifts meet with trouble, by what they are. */
export const awkwardRows: readonly (readonly [string, (random: Random, n: number) => number[]])[] = [
  ["sorted input", (random, n) => normal(random, n, 100).sort((a, b) => a - b)],
  ["a ramp", (_, n) => Array.from({ length: n }, (_, d) => d / 3)],
  ["two values", (random, n) => Array.from({ length: n }, () => (random.uniform() < 0.3 ? 1.1 : 0.1))],
  ["values near 1e-22", (random, n) => normal(random, n, 3).map((v) => v * 1e-22)],
  ["values near 1e18", (random, n) => normal(random, n, 0).map((v) => v * 1e18)],
];
