import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";

/** The multipliers and shifts that base/random.ts uses to spread a seed. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return x ^ (x >>> 15);
}

export const random: Pick<KernelSet, "dropoutMask"> = {
  dropoutMask(y, keep, keepScale, key) {
    const to = heap.view(y);
    const key1 = mix((key % 2 ** 32) ^ 0x9e3779b9);
    const key2 = mix((key1 + Math.floor(key / 2 ** 32) + 0x85ebca6b) | 0);
    const kept = Math.round(keep * 2 ** 32);
    for (let i = 0; i < to.length; i++) {
      const bits = mix(mix((i + key1) | 0) ^ key2) >>> 0;
      to[i] = bits < kept ? keepScale : 0;
    }
  },
};
