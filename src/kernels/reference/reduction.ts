import { heap } from "../../memory/heap.js";
import type { KernelSet, ReduceOp } from "../kernel_set.js";

/** The value of an empty axis, and how one element joins what came before it. NaN is both largest and smallest. */
const folds: Readonly<Record<ReduceOp, { empty: number; join: (before: number, v: number) => number }>> = {
  sum: { empty: 0, join: (before, v) => before + v },
  sumSquares: { empty: 0, join: (before, v) => before + v * v },
  sumAbs: { empty: 0, join: (before, v) => before + Math.abs(v) },
  prod: { empty: 1, join: (before, v) => before * v },
  max: { empty: Number.NEGATIVE_INFINITY, join: (before, v) => (v > before || Number.isNaN(v) ? v : before) },
  min: { empty: Number.POSITIVE_INFINITY, join: (before, v) => (v < before || Number.isNaN(v) ? v : before) },
};

export const reduction: Pick<KernelSet, "reduce" | "argMax"> = {
  reduce(op, x, y, { outer, reduce, inner }) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    const { empty, join } = folds[op];
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let result = empty;
        for (let r = 0; r < reduce; r++) result = join(result, xs[(o * reduce + r) * inner + i]!);
        ys[o * inner + i] = result;
      }
    }
  },

  argMax(x, y, { outer, reduce, inner }) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let [at, best] = [0, xs[o * reduce * inner + i]!];
        for (let r = 1; r < reduce && !Number.isNaN(best); r++) {
          const v = xs[(o * reduce + r) * inner + i]!;
          if (v > best || Number.isNaN(v)) [at, best] = [r, v];
        }
        ys[o * inner + i] = at;
      }
    }
  },
};
