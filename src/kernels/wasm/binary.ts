import type { Slot } from "../../memory/heap.js";
import type { BinaryOp, BroadcastPlan } from "../kernel_set.js";
import { launch } from "../threads/pool.js";

/** Elements a unit: two operands in and one out stay in a first-level cache. */
const UNIT = 4096;

/** Codes as in assembly/binary.ts. */
const binaryCode: Readonly<Record<BinaryOp, number>> = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  pow: 4,
  maximum: 5,
  minimum: 6,
  equal: 7,
  notEqual: 8,
  less: 9,
  lessEqual: 10,
  greater: 11,
  greaterEqual: 12,
};

/** Splits the result into rows of its last axis: long rows into segments, short rows into groups. */
export function binary(op: BinaryOp, a: Slot, b: Slot, y: Slot, plan: BroadcastPlan): void {
  if (y.length === 0) return;
  const { shape, aStrides, bStrides } = plan;
  const last = shape.length - 1;
  const inner = shape[last] ?? 1;
  const rows = y.length / inner;
  const segments = Math.ceil(inner / UNIT);
  const unitRows = segments > 1 ? 1 : Math.max(1, Math.floor(UNIT / inner));
  const outerAxes = Math.max(0, last - 1);
  const args = [
    binaryCode[op],
    a.ptr,
    b.ptr,
    y.ptr,
    rows,
    inner,
    aStrides[last] ?? 0,
    bStrides[last] ?? 0,
    shape[last - 1] ?? 1,
    aStrides[last - 1] ?? 0,
    bStrides[last - 1] ?? 0,
    segments,
    UNIT,
    unitRows,
    outerAxes,
  ];
  for (let axis = 0; axis < outerAxes; axis++) args.push(shape[axis]!, aStrides[axis]!, bStrides[axis]!);
  launch("binary", Math.ceil(rows / unitRows) * segments, y.length * (op === "pow" ? 50 : 1), args);
}
