import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../base/random.js";
import {
  besselFactor,
  biasedVariance,
  type Moments,
  mergeColumns,
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

test("columns merge as single moments do, empty sets and NaN included", () => {
  const random = new Random(12);
  const sizes = [0, 3, 1, 0, 7];
  const values = sizes.map((n) =>
    Array.from({ length: 4 }, () => Array.from({ length: n }, () => 5 + random.normal())),
  );
  values[1]![3]![0] = Number.NaN;
  const sets = values.map((columns, i) => {
    const each = columns.map((v) => momentsOf(v));
    const column = (of: "mean" | "m2") => Float64Array.from(each, (m) => m[of]);
    return { count: sizes[i]!, mean: column("mean"), m2: column("m2") };
  });
  const got = mergeColumns(sets, 4);
  expect(got.count).toBe(11);
  for (let c = 0; c < 4; c++) {
    const want = momentsOf(values.flatMap((columns) => columns[c]!));
    if (c === 3) expect([got.mean[c], got.m2[c]]).toEqual([Number.NaN, Number.NaN]);
    else {
      expect(got.mean[c]).toBeCloseTo(want.mean, 13);
      expect(got.m2[c]).toBeCloseTo(want.m2, 12);
    }
  }
});
