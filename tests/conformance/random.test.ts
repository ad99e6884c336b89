import { describe, expect, test } from "vitest";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const sizes = [0, ...awkwardSizes, 70_001];
const keys = [0, 1, 12345, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];

conformance(
  "random",
  keys.map<ConformanceCase>((key) => ({
    name: `dropoutMask, key ${key}`,
    tolerance: 0,
    run: (kernels, make) =>
      sizes.flatMap((n) =>
        [0, 0.3, 0.5, 0.9, 1].map((keep) => {
          const y = make.empty(n);
          kernels.dropoutMask(y, keep, 1.25, key);
          return y;
        }),
      ),
  })),
);

describe("dropout masks as random numbers", () => {
  const n = 100_000;
  const mask = (keep: number, key: number, kernels = wasm): Float64Array => {
    const make = new Maker("float32", 0);
    const y = make.empty(n);
    kernels.dropoutMask!(y, keep, 1, key);
    const copy = Float64Array.from(y.view);
    make.release();
    return copy;
  };
  /** Correlation of two masks over n - lag pairs, in standard deviations of its own chance spread. */
  const correlation = (a: Float64Array, b: Float64Array, lag: number, keep: number): number => {
    let sum = 0;
    for (let i = 0; i + lag < n; i++) sum += (a[i]! - keep) * (b[i + lag]! - keep);
    return sum / (keep * (1 - keep)) / Math.sqrt(n - lag);
  };

  test("no element is kept at 0, each at 1, with a scale that is infinite too", () => {
    const make = new Maker("float32", 0);
    const y = make.empty(1000);
    wasm.dropoutMask!(y, 0, Number.POSITIVE_INFINITY, 7);
    expect(y.view.every((v) => v === 0)).toBe(true);
    wasm.dropoutMask!(y, 1, 1, 7);
    expect(y.view.every((v) => v === 1)).toBe(true);
    make.release();
  });

  test.each([0.1, 0.5, 0.8])("keeps the share it should (%d)", (keep) => {
    for (const key of [...keys, 2, 3, 4]) {
      const kept = mask(keep, key).reduce((s, v) => s + v, 0);
      expect(Math.abs(kept - n * keep) / Math.sqrt(n * keep * (1 - keep)), `key ${key}`).toBeLessThan(4);
    }
  });

  // 5 standard deviations: one false alarm in 10^6, and the numbers are always the same ones.
  test("neighbours within a mask are independent", () => {
    const a = mask(0.5, 42);
    for (let lag = 1; lag <= 64; lag++) expect(Math.abs(correlation(a, a, lag, 0.5)), `lag ${lag}`).toBeLessThan(5);
  });

  test("masks of neighbouring keys are independent, at every shift up to 64", () => {
    for (const [k1, k2] of [
      [0, 1],
      [1, 2],
      [7, 7 + 2 ** 32],
      [2 ** 32, 2 ** 33],
      [100, 101],
    ] as const) {
      const [a, b] = [mask(0.5, k1), mask(0.5, k2)];
      for (let lag = 0; lag <= 64; lag++) expect(Math.abs(correlation(a, b, lag, 0.5)), `${k1} ${k2}`).toBeLessThan(5);
    }
  });

  test("a mask in float64 has the same pattern", () => {
    const make = new Maker("float64", 0);
    const y = make.empty(n);
    reference.dropoutMask(y, 0.3, 1, 99);
    expect(Float64Array.from(y.view)).toEqual(mask(0.3, 99));
    make.release();
  });
});
