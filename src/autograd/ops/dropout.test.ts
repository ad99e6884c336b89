import { describe, expect, test } from "vitest";
import { awkwardSizes } from "../../../tests/conformance/harness.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { Random } from "../../base/random.js";
import { grad, ones, zeros } from "../index.js";
import { dropout } from "./dropout.js";

checkOps(
  "dropout",
  awkwardSizes
    .filter((n) => n < 100)
    .map((n) => ({ name: `of ${n}`, inputs: [normal([n])], apply: (x) => dropout(x!, 0.3, new Random(5)) })),
);

describe("dropout", () => {
  const big = ones([100, 1000]);

  test("keeps a share of 1 - p, scaled so that the mean stays", () => {
    for (const p of [0.1, 0.5, 0.9]) {
      const y = dropout(big, p, new Random(1)).dataSync();
      const kept = y.filter((v) => v !== 0).length / y.length;
      // Five standard deviations of a share of 100,000 draws.
      expect(Math.abs(kept - (1 - p))).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / y.length));
      for (const v of y) if (v !== 0) expect(v).toBe(Math.fround(1 / (1 - p)));
    }
  });

  test("equal seeds give equal bits in both types, later calls other masks", () => {
    const random = new Random(3);
    const first = dropout(big, 0.5, random).dataSync();
    const second = dropout(big, 0.5, random).dataSync();
    expect(dropout(big, 0.5, new Random(3)).dataSync()).toEqual(first);
    expect(Array.from(dropout(big.cast("float64"), 0.5, new Random(3)).dataSync())).toEqual(Array.from(first));
    const same = first.filter((v, i) => v === second[i]).length / first.length;
    expect(Math.abs(same - 0.5)).toBeLessThan(0.01);
  });

  test("the gradient has the mask of the forward pass", () => {
    const x = ones([1023], { requiresGrad: true });
    const y = dropout(x, 0.4, new Random(9));
    expect(grad(y, x, { gradOutput: ones([1023]) }).dataSync()).toEqual(y.dataSync());
  });

  test("p = 0 returns x, p = 1 returns zeros; outside [0, 1] and int32 are refused", () => {
    expect(dropout(big, 0)).toBe(big);
    expect(Math.max(...dropout(ones([33]), 1).dataSync())).toBe(0);
    expect(() => dropout(big, 1.5)).toThrow(/dropout p must be a number in \[0, 1\]; got 1.5/);
    expect(() => dropout(big, Number.NaN)).toThrow(/got NaN/);
    expect(() => dropout(zeros([2], { dtype: "int32" }), 0.5)).toThrow(/float32 or float64; got int32/);
  });
});
