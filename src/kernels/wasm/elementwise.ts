import { UnsupportedKernel } from "../../base/errors.js";
import type { KernelSet } from "../kernel_set.js";
import { launch } from "../threads/pool.js";

/** Elements a unit: 16 KiB, half a first-level cache for one operand in and one out. */
const UNIT = 4096;

export const elementwise: Pick<KernelSet, "fill"> = {
  fill(y, value) {
    if (y.dtype !== "float32") throw new UnsupportedKernel("fill has a WASM kernel for float32 only");
    launch("fill", Math.ceil(y.length / UNIT), y.length, [y.ptr, y.length, value, UNIT]);
  },
};
