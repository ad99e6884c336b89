import type { KernelSet } from "../kernel_set.js";
import { run } from "./device.js";
import { elementProgram, groupsFor, only } from "./elementwise.js";

/** The integers of reference/random.ts, so that a mask is the same bit for bit on every device. */
const mix = (x: number): number => {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return x ^ (x >>> 15);
};

/** Numbers up to P.last are kept, of 2^32. */
const dropoutMask = elementProgram(
  "dropout_mask",
  [],
  `
fn mix(v: U) -> U {
  var x = (v ^ (v >> U(16u))) * 0x21f0aaadu;
  x = (x ^ (x >> U(15u))) * 0x735a2d97u;
  return x ^ (x >> U(15u));
}
fn f(i: u32) -> E {
  let bits = mix(mix(U(i * STEP + P.key1) + RAMP) ^ U(P.key2));
  return select(E(0.0), E(P.scale), bits <= U(P.last));
}`,
  { key1: "u32", key2: "u32", last: "u32", scale: "f32" },
);

export const random: Pick<KernelSet, "dropoutMask"> = {
  dropoutMask(y, keep, keepScale, key) {
    only("dropoutMask", ["float32"], y);
    const kept = Math.round(keep * 2 ** 32);
    const key1 = mix((key % 2 ** 32) ^ 0x9e3779b9);
    const key2 = mix((key1 + Math.floor(key / 2 ** 32) + 0x85ebca6b) | 0);
    // With none kept the scale may be infinite; then what would be kept is 0.
    const parameters = { size: y.length, key1, key2, last: Math.max(0, kept - 1), scale: kept === 0 ? 0 : keepScale };
    run(dropoutMask, { operands: { y }, parameters, groups: groupsFor(y.length) });
  },
};
