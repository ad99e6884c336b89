import type { Slot } from "../../memory/heap.js";
import type { BinaryOp, BroadcastPlan } from "../kernel_set.js";
import { kernelArgs, run } from "../threads/pool.js";
import { kernelIndex } from "./module.js";

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

const BINARY = kernelIndex("binary");
const FIELDS = 15;

/** Nanoseconds that an element takes. */
const LIGHT_WORK = 0.125;
const POW_WORK = 12;

/** Splits the result into rows of its last axis: long rows into segments, short rows into groups. */
export function binary(op: BinaryOp, a: Slot, b: Slot, y: Slot, plan: BroadcastPlan): void {
  if (y.length === 0) return;
  const { shape, aStrides, bStrides } = plan;
  const last = shape.length - 1;
  const inner = last < 0 ? 1 : shape[last]!;
  const rows = y.length / inner;
  const segments = Math.ceil(inner / UNIT);
  const unitRows = segments > 1 ? 1 : Math.max(1, Math.floor(UNIT / inner));
  const outerAxes = Math.max(0, last - 1);
  const args = kernelArgs();
  args[0] = binaryCode[op];
  args[1] = a.ptr;
  args[2] = b.ptr;
  args[3] = y.ptr;
  args[4] = rows;
  args[5] = inner;
  args[6] = last < 0 ? 0 : aStrides[last]!;
  args[7] = last < 0 ? 0 : bStrides[last]!;
  args[8] = last < 1 ? 1 : shape[last - 1]!;
  args[9] = last < 1 ? 0 : aStrides[last - 1]!;
  args[10] = last < 1 ? 0 : bStrides[last - 1]!;
  args[11] = segments;
  args[12] = UNIT;
  args[13] = unitRows;
  args[14] = outerAxes;
  for (let axis = 0; axis < outerAxes; axis++) {
    args[FIELDS + 3 * axis] = shape[axis]!;
    args[FIELDS + 3 * axis + 1] = aStrides[axis]!;
    args[FIELDS + 3 * axis + 2] = bStrides[axis]!;
  }
  run(BINARY, Math.ceil(rows / unitRows) * segments, y.length * (op === "pow" ? POW_WORK : LIGHT_WORK));
}
