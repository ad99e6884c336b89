import { heap } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { KernelSet, ReduceOp } from "../kernel_set.js";
import { getThreads, launch } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";

/** Nanoseconds an element. */
const WORK = 0.15;
/** Elements of a row that one unit reduces. */
const ROW_PIECE = 16384;
/** Rows that one unit reduces side by side in float32: 8 additions in a row, of trees of eight. */
const COLUMN_PIECE = 64;
/** Columns a unit: eight rows of them and their results lie close to first-level cache. */
const STRIP = 1024;
/** Columns a unit of argMax. */
const SEARCH_STRIP = 256;

/** The kernels' number of each operation, the value of an empty axis, and how partial results of a row merge. */
const ops: Readonly<Record<ReduceOp, { code: number; empty: number; merge: (a: number, b: number) => number }>> = {
  sum: { code: 0, empty: 0, merge: (a, b) => a + b },
  max: { code: 1, empty: Number.NEGATIVE_INFINITY, merge: Math.max },
  min: { code: 2, empty: Number.POSITIVE_INFINITY, merge: Math.min },
  prod: { code: 3, empty: 1, merge: (a, b) => a * b },
  sumSquares: { code: 4, empty: 0, merge: (a, b) => a + b },
  sumAbs: { code: 5, empty: 0, merge: (a, b) => a + b },
};

export const reduction: Pick<KernelSet, "reduce" | "argMax"> = {
  reduce(op, x, y, { outer, reduce, inner }) {
    float32Only("reduce", x, y);
    const { code, empty, merge } = ops[op];
    if (reduce === 0) {
      heap.view(y).fill(empty);
    } else if (inner === 1) {
      const pieces = Math.ceil(reduce / ROW_PIECE);
      if (pieces === 1) {
        launch("reduce_rows", outer, x.length * WORK, [x.ptr, y.ptr, reduce, 1, reduce, code]);
        return;
      }
      const partial = new Storage(outer * pieces, "float64");
      launch("reduce_rows", outer * pieces, x.length * WORK, [x.ptr, partial.ptr, reduce, pieces, ROW_PIECE, code]);
      const [parts, ys] = [partial.view, heap.view(y)];
      for (let o = 0; o < outer; o++) {
        let result = empty;
        for (let i = o * pieces; i < (o + 1) * pieces; i++) result = merge(result, parts[i]!);
        ys[o] = result;
      }
      partial.release();
    } else {
      const pieces = Math.ceil(reduce / COLUMN_PIECE);
      const strips = Math.ceil(inner / STRIP);
      const wide = op === "prod" || op === "sumSquares";
      const partial = pieces > 1 || wide ? new Storage(outer * pieces * inner, wide ? "float64" : "float32") : null;
      const into = partial?.ptr ?? y.ptr;
      const args = [x.ptr, into, reduce, inner, pieces, COLUMN_PIECE, strips, STRIP, code];
      launch("reduce_columns", outer * pieces * strips, x.length * WORK, args);
      if (!partial) return;
      launch("merge_columns", outer * inner, partial.length, [partial.ptr, y.ptr, inner, pieces, code]);
      partial.release();
    }
  },

  argMax(x, y, { outer, reduce, inner }) {
    float32Only("argMax", x);
    if (reduce === 0) {
      heap.view(y).fill(0);
    } else if (inner === 1) {
      launch("arg_max_rows", outer, x.length, [x.ptr, y.ptr, reduce, inner, 1, 1, 0]);
    } else {
      const strip = Math.min(inner, SEARCH_STRIP);
      const strips = Math.ceil(inner / strip);
      const best = new Storage(getThreads() * strip, "float32");
      launch("arg_max_columns", outer * strips, x.length, [x.ptr, y.ptr, reduce, inner, strips, strip, best.ptr]);
      best.release();
    }
  },
};
