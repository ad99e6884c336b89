import { Random } from "../../src/base/random.js";
import type { ColumnView } from "../../src/norm/views.js";

export type Sample = (random: Random, i: number, size: number) => number;
/** Values in the order of a group's memory, with mean near 0; their spread is 1 but for the outliers. */
export const samples: Record<string, Sample> = {
  normal: (random) => random.normal(),
  "first of the group far off": (random, i) => random.normal() + (i < 3 ? 1e6 : 0),
  "firsts of chunks far off": (random, i) => random.normal() + (i % 2048 === 0 || i % 49 === 0 ? 1e6 : 0),
  sorted: (random, i, size) => (3.4 * i) / size - 1.7 + 0.01 * random.normal(),
  "two values": (random) => (random.uniform() < 0.3 ? 1.53 : -0.66),
};

export const total = (v: ColumnView): number => v.batch * v.outer * v.channels * v.inner;

/** x of `view`, each statistic group with a mean of its own: r standard deviations, of either sign. */
export function input(v: ColumnView, sample: Sample, r: number, seed: number): Float32Array {
  const random = new Random(seed);
  const groups = v.channels / v.merge;
  const size = v.outer * v.merge * v.inner;
  const x = new Float32Array(total(v));
  for (let b = 0; b < v.batch; b++) {
    for (let g = 0; g < groups; g++) {
      const mean = r * (g % 2 ? -1 : 1) * (0.7 + 0.3 * random.uniform());
      let i = 0;
      for (let o = 0; o < v.outer; o++) {
        const from = ((b * v.outer + o) * groups + g) * v.merge * v.inner;
        for (let e = 0; e < v.merge * v.inner; e++) x[from + e] = mean + sample(random, i++, size);
      }
    }
  }
  return x;
}
