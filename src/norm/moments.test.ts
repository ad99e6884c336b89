import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  besselFactor,
  biasedVariance,
  type Moments,
  mergeMoments,
  momentsOf,
  noMoments,
  unbiasedVariance,
} from "./moments.js";

/** Values around a mean of up to 1e6 standard deviations: where a sum of squares would lose everything. */
const values = fc
  .tuple(
    fc.double({ min: -1e6, max: 1e6, noNaN: true }),
    fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 60 }),
  )
  .map(([mean, around]) => around.map((v) => mean + v));

/** Rounding of the values themselves, seen by M2: n * |mean| * spread * 2^-53 bounds it, with room for the merges. */
function expectClose(got: Moments, want: Moments, size: number): void {
  expect(got.count).toBe(want.count);
  expect(Math.abs(got.mean - want.mean)).toBeLessThanOrEqual(4e-16 * (size + 1) * 8);
  expect(Math.abs(got.m2 - want.m2)).toBeLessThanOrEqual(want.count * (size + 1) * 4e-15);
}

describe("moments", () => {
  test("of a few numbers by hand", () => {
    const m = momentsOf([2, 4, 9]);
    expect(m).toEqual({ count: 3, mean: 5, m2: 26 });
    expect(biasedVariance(m)).toBeCloseTo(26 / 3, 14);
    expect(unbiasedVariance(m)).toBe(13);
    expect(biasedVariance(m) * besselFactor(3)).toBeCloseTo(13, 14);
  });

  test("merging any split gives the moments of the whole", () => {
    fc.assert(
      fc.property(values, fc.array(fc.nat(60), { maxLength: 5 }), (all, cuts) => {
        const at = [0, ...cuts.map((c) => Math.min(c, all.length)).sort((a, b) => a - b), all.length];
        const parts = at.slice(1).map((end, i) => momentsOf(all.slice(at[i], end)));
        const size = Math.max(...all.map(Math.abs));
        expectClose(parts.reduce(mergeMoments, noMoments), momentsOf(all), size);
        expectClose(
          parts.reduceRight((a, b) => mergeMoments(b, a), noMoments),
          momentsOf(all),
          size,
        );
      }),
    );
  });

  test("nothing merges as nothing", () => {
    const m = momentsOf([1, 2]);
    expect(mergeMoments(noMoments, m)).toBe(m);
    expect(mergeMoments(m, noMoments)).toBe(m);
    expect(momentsOf([])).toBe(noMoments);
  });

  test("variance survives a mean a billion times larger", () => {
    const m = mergeMoments(momentsOf([1e9 + 1, 1e9 + 2]), momentsOf([1e9 + 3, 1e9 + 4, 1e9 + 5]));
    expect(m.mean).toBe(1e9 + 3);
    expect(m.m2).toBe(10);
  });

  test("NaN stays visible", () => {
    const m = mergeMoments(momentsOf([1, Number.NaN]), momentsOf([1, 2]));
    expect(m.mean).toBeNaN();
    expect(m.m2).toBeNaN();
  });

  test("variances that have no meaning are NaN, never 0 or Infinity", () => {
    expect(biasedVariance(noMoments)).toBeNaN();
    expect(unbiasedVariance(noMoments)).toBeNaN();
    expect(unbiasedVariance(momentsOf([7]))).toBeNaN();
    expect(besselFactor(1)).toBeNaN();
  });
});
