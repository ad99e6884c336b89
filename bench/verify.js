import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

function numbersOf({ file, bits }) {
  const bytes = readFileSync(file);
  const Numbers = bits === 64 ? Float64Array : Float32Array;
  return new Numbers(bytes.buffer, bytes.byteOffset, bytes.byteLength / Numbers.BYTES_PER_ELEMENT);
}

/** Largest difference between two lists of numbers, relative to the largest of `want`; Infinity where lengths differ. */
export function relativeError(got, want) {
  let difference = got.length === want.length ? 0 : Infinity;
  let largest = Number.MIN_VALUE;
  for (let i = 0; i < want.length; i++) {
    largest = Math.max(largest, Math.abs(want[i]));
    const d = Math.abs(got[i] - want[i]);
    if (!(d <= difference)) difference = Number.isNaN(d) ? Infinity : d;
  }
  return difference / largest;
}

/** The largest of these errors between results that are written to files, and which result it is in. */
export function largestError(results, expected) {
  const worst = { error: 0, name: "" };
  for (const [name, place] of Object.entries(results)) {
    if (!expected[name]) continue;
    const error = relativeError(numbersOf(place), numbersOf(expected[name]));
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
