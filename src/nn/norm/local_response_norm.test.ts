import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal, positive } from "../../../tests/conformance/op_harness.js";
import { type Tensor, zeros } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import * as F from "./functional.js";
import { LocalResponseNorm, MapLRN } from "./index.js";

const values = (t: Tensor) => [...t.dataSync()];
const bad = [
  { alpha: -1 },
  { beta: Number.NaN },
  { k: 0 },
  { k: Number.POSITIVE_INFINITY },
  { lean: "middle" },
  { divide: true },
];

normContract({
  name: "LocalResponseNorm",
  make: (o) => new LocalResponseNorm(2, o),
  shape: [2, 4, 3],
  state: [],
  bad: [...bad, { axis: 0.5 }],
  wrong: null,
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: (a, b) => a[0] === b[0] && a[2] === b[2] && (b[1] === a[1] || b[1] === a[1]! + 1),
  sameInEval: true,
});

normContract({
  name: "MapLRN",
  make: (o) => new MapLRN(3, o),
  shape: [2, 4, 5, 4],
  state: [],
  bad,
  wrong: [2, 4],
  lone: { shape: [1, 4, 1], works: true },
  constant: "finite",
  spreads: (a, b) => a[0] === b[0] && a[1] === b[1] && Math.abs(a[2]! - b[2]!) <= 1 && Math.abs(a[3]! - b[3]!) <= 1,
  sameInEval: true,
});

/** y of one axis by plain loops, its windows from c - before to c + after. */
function byLoops(row: number[], before: number, after: number, alpha: number, beta: number, k: number): number[] {
  return row.map((v, c) => {
    let sum = 0;
    for (let j = Math.max(0, c - before); j <= Math.min(row.length - 1, c + after); j++) sum += row[j]! ** 2;
    return v / (k + alpha * sum) ** beta;
  });
}

describe("windows", () => {
  const row = values(normal([9]));
  const x = normal([1, 9, 1]).assign(row);

  for (const [size, lean, before, after] of [
    [1, "left", 0, 0],
    [2, "left", 1, 0],
    [2, "right", 0, 1],
    [3, "left", 1, 1],
    [3, "right", 1, 1],
    [4, "left", 2, 1],
    [4, "right", 1, 2],
    [20, "left", 10, 9],
  ] as const) {
    test(`of ${size} elements lean ${lean}`, () => {
      const o = { alpha: 0.3, beta: 0.6, k: 1.5, lean };
      const want = byLoops(row, before, after, 0.3 / size, 0.6, 1.5);
      expect(relativeError(values(F.localResponseNorm(x, size, o)), want)).toBeLessThanOrEqual(1e-14);
      // Along memory instead, and within a map.
      expect(
        relativeError(values(F.localResponseNorm(x.reshape([1, 9]), size, { ...o, axis: -1 })), want),
      ).toBeLessThan(1e-14);
      expect(relativeError(values(new MapLRN(size, o).forward(x.reshape([1, 1, 9]))), want)).toBeLessThan(1e-14);
    });
  }

  test("divide: none takes alpha as it is", () => {
    const o = { alpha: 0.3, beta: 0.5, k: 1, divide: "none" } as const;
    expect(relativeError(values(F.localResponseNorm(x, 5, o)), byLoops(row, 2, 2, 0.3, 0.5, 1))).toBeLessThan(1e-14);
    const plane = normal([1, 1, 3, 3]);
    const all = values(plane).reduce((s, v) => s + v * v, 0);
    const centre = values(new MapLRN(3, o).forward(plane))[4]!;
    expect(centre).toBeCloseTo(values(plane)[4]! / Math.sqrt(1 + 0.3 * all), 13);
  });
});

test("zeros, empty inputs and large ones", () => {
  const layer = new LocalResponseNorm(5);
  expect(values(layer.forward(zeros([1, 3, 2])))).toEqual(new Array(6).fill(0));
  expect(layer.forward(zeros([0, 3, 2])).shape).toEqual([0, 3, 2]);
  expect(new MapLRN(3).forward(zeros([2, 0, 2])).shape).toEqual([2, 0, 2]);
  // Squares of 1e19 still are float32 numbers, and the sums of them are taken in float64.
  const large = positive([2, 6, 5], 5e18, 1e19).cast("float32");
  const dy = normal([2, 6, 5]).cast("float32");
  for (const norm of [layer, new MapLRN(3)]) {
    const [y, wide] = [norm.forward(large), norm.forward(large.cast("float64"))];
    expect(relativeError(values(y), values(wide))).toBeLessThanOrEqual(1e-6);
    norm.forward(large);
    for (const v of values(norm.backward(dy))) expect(v).toSatisfy(Number.isFinite);
  }
});

test("what they refuse", () => {
  expect(() => new LocalResponseNorm(0)).toThrow(/LocalResponseNorm: size must be a whole number of at least 1; got 0/);
  expect(() => new MapLRN(2.5)).toThrow(OptionError);
  expect(() => new LocalResponseNorm(3, { k: 0 })).toThrow(/k must be a finite number above 0/);
  expect(() => new LocalResponseNorm(3, { axis: 4 }).forward(zeros([2, 3, 4]))).toThrow(ShapeError);
  expect(() => new MapLRN(3).forward(zeros([2, 3]))).toThrow(/MapLRN takes an input of rank 3 or 4 or 5/);
  expect(() => F.localResponseNorm(zeros([2, 3, 4]), 3, { apha: 1 } as never)).toThrow(/Did you mean "alpha"\?/);
});
