import { heap, type Slot } from "../../memory/heap.js";
import type { KernelSet, ReduceOp } from "../kernel_set.js";
import { kernelArgs, run, scratchPlaces } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";
import { kernelIndex } from "./module.js";

const ROWS = kernelIndex("reduce_rows");
const COLUMNS = kernelIndex("reduce_columns");
const MERGE_COLUMNS = kernelIndex("merge_columns");
const SEARCH_ROWS = kernelIndex("arg_max_rows");
const SEARCH_COLUMNS = kernelIndex("arg_max_columns");

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
    if (y.length === 0) return;
    if (reduce === 0) heap.view(y).fill(ops[op].empty);
    else if (inner === 1) reduceRows(op, x, y, outer, reduce);
    else reduceColumns(op, x, y, outer, reduce, inner);
  },

  argMax(x, y, { outer, reduce, inner }) {
    float32Only("argMax", x);
    if (y.length === 0) return;
    if (reduce === 0) heap.view(y).fill(0);
    else if (inner === 1) search(SEARCH_ROWS, outer, x, y, reduce, 1, 1, 1, 0);
    else {
      const strip = Math.min(inner, SEARCH_STRIP);
      const strips = Math.ceil(inner / strip);
      const best = heap.allocate(scratchPlaces() * strip * 4);
      search(SEARCH_COLUMNS, outer * strips, x, y, reduce, inner, strips, strip, heap.address(best));
      heap.free(best);
    }
  },
};

function reduceRows(op: ReduceOp, x: Slot, y: Slot, outer: number, reduce: number): void {
  const { code, empty, merge } = ops[op];
  const pieces = Math.ceil(reduce / ROW_PIECE);
  const block = pieces > 1 ? heap.allocate(outer * pieces * 8) : 0;
  const partial = pieces > 1 ? heap.address(block) : 0;
  const a = kernelArgs();
  a[0] = x.ptr;
  a[1] = pieces > 1 ? partial : y.ptr;
  a[2] = reduce;
  a[3] = pieces;
  a[4] = pieces > 1 ? ROW_PIECE : reduce;
  a[5] = code;
  run(ROWS, outer * pieces, x.length * WORK);
  if (pieces === 1) return;
  const parts = heap.doubles;
  let at = partial / 8;
  for (let o = 0; o < outer; o++) {
    let result = empty;
    for (let i = 0; i < pieces; i++) result = merge(result, parts[at++]!);
    heap.write(y, o, result);
  }
  heap.free(block);
}

function reduceColumns(op: ReduceOp, x: Slot, y: Slot, outer: number, reduce: number, inner: number): void {
  const { code } = ops[op];
  const pieces = Math.ceil(reduce / COLUMN_PIECE);
  const strips = Math.ceil(inner / STRIP);
  const wide = op === "prod" || op === "sumSquares";
  const partial = pieces > 1 || wide ? outer * pieces * inner : 0;
  const block = partial > 0 ? heap.allocate(partial * (wide ? 8 : 4)) : 0;
  const into = partial > 0 ? heap.address(block) : y.ptr;
  const a = kernelArgs();
  a[0] = x.ptr;
  a[1] = into;
  a[2] = reduce;
  a[3] = inner;
  a[4] = pieces;
  a[5] = COLUMN_PIECE;
  a[6] = strips;
  a[7] = STRIP;
  a[8] = code;
  run(COLUMNS, outer * pieces * strips, x.length * WORK);
  if (partial === 0) return;
  a[0] = into;
  a[1] = y.ptr;
  a[2] = inner;
  a[3] = pieces;
  a[4] = code;
  run(MERGE_COLUMNS, outer * inner, partial);
  heap.free(block);
}

function search(
  kernel: number,
  units: number,
  x: Slot,
  y: Slot,
  reduce: number,
  inner: number,
  strips: number,
  strip: number,
  best: number,
): void {
  const a = kernelArgs();
  a[0] = x.ptr;
  a[1] = y.ptr;
  a[2] = reduce;
  a[3] = inner;
  a[4] = strips;
  a[5] = strip;
  a[6] = best;
  run(kernel, units, x.length);
}
