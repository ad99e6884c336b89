import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

function numbersOf({ file, bits }) {
  const bytes = readFileSync(file);
  const Numbers = bits === 64 ? Float64Array : Float32Array;
  return new Numbers(bytes.buffer, bytes.byteOffset, bytes.byteLength / Numbers.BYTES_PER_ELEMENT);
}

/** Largest difference between results, relative to the largest value of each; Infinity where lengths differ. */
export function largestError(results, expected) {
  const worst = { error: 0, name: "" };
  for (const [name, place] of Object.entries(results)) {
    if (!expected[name]) continue;
    const [got, want] = [numbersOf(place), numbersOf(expected[name])];
    let difference = got.length === want.length ? 0 : Infinity;
    let largest = Number.MIN_VALUE;
    for (let i = 0; i < want.length; i++) {
      largest = Math.max(largest, Math.abs(want[i]));
      const d = Math.abs(got[i] - want[i]);
      if (!(d <= difference)) difference = Number.isNaN(d) ? Infinity : d;
    }
    const error = difference / largest;
    if (!(error <= worst.error)) Object.assign(worst, { error, name });
  }
  return worst;
}

/** A digest of the bits of all results. */
export function digest(results) {
  const hash = createHash("sha1");
  for (const { file } of Object.values(results)) hash.update(readFileSync(file));
  return hash.digest("hex");
}

/**
 * How far results may be from the float64 reference. Ours: the accuracy the library promises for statistics, and for
 * products float32 sums of a few thousand terms. Peers sum in float32 throughout, TensorFlow.js in any order.
 */
export const bounds = { norm: 2.5e-7, matmul: 2e-6, conv: 4e-6, step: 1e-3, peer: 1e-3 };
