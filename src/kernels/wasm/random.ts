import type { KernelSet } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { needFloat32, UNIT } from "./elementwise.js";

/** Nanoseconds an element. */
const WORK = 1.2;

export const random: Pick<KernelSet, "dropoutMask"> = {
  dropoutMask(y, keep, keepScale, key) {
    needFloat32("dropoutMask", y);
    const threshold = Math.round(keep * 2 ** 32) - 1;
    const args = [y.ptr, y.length, threshold, keepScale, key % 2 ** 32, Math.floor(key / 2 ** 32), UNIT];
    launch("dropout_mask", Math.ceil(y.length / UNIT), y.length * WORK, args);
  },
};
