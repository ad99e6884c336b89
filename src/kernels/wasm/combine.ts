import type { Combination } from "../../base/communicator.js";
import { bytesPerElement } from "../../base/dtype.js";
import { heap, type Slot } from "../../memory/heap.js";
import { kernelArgs, run } from "../threads/pool.js";
import { kernelIndex } from "./module.js";

const COMBINE = kernelIndex("combine");
/** Bytes a unit: three arrays of them stay in a first-level cache. */
const UNIT_BYTES = 8192;
/** Nanoseconds that a byte of a part takes. */
const WORK = 0.03;

/** Codes as in assembly/combine.ts. */
const code: Readonly<Record<Combination, number>> = { sum: 0, max: 1, min: 2 };

/**
 * y = the sum, largest or smallest of each element over parts of y's type (float32 or float64) and length: in the order of parts,
 * sums in double. NaN is larger and smaller than all. y may be one of the parts. What ranks exchange lies on the heap, whatever
 * device computes: so this is no kernel that ops dispatch.
 */
export function combine(how: Combination, parts: readonly Slot[], y: Slot): void {
  const { dtype } = y;
  const bytes = y.length * bytesPerElement[dtype];
  const table = heap.allocate(4 * parts.length);
  const place = heap.address(table);
  const { words } = heap;
  for (let r = 0; r < parts.length; r++) words[place / 4 + r] = parts[r]!.ptr;
  const a = kernelArgs();
  a[0] = place;
  a[1] = parts.length;
  a[2] = y.ptr;
  a[3] = bytes;
  a[4] = code[how] + (dtype === "float64" ? 3 : 0);
  a[5] = UNIT_BYTES;
  run(COMBINE, Math.ceil(bytes / UNIT_BYTES), bytes * parts.length * WORK);
  heap.free(table);
}
