import type { NumberArray } from "../base/dtype.js";
import { everyTime } from "../kernels/tape.js";
import { heap } from "../memory/heap.js";
import type { Tensor } from "./tensor.js";

/**
 * Looks at a tensor's numbers for what would be an error, each time where a captured step is repeated. On other devices than
 * the CPU nobody looks, since that would mean waiting for them: there kernels stay within bounds and give NaN.
 */
export function checkNumbers(t: Tensor, check: (numbers: NumberArray) => void): void {
  const { storage } = t;
  if (!storage.block) everyTime(() => check(heap.view(storage)));
}
