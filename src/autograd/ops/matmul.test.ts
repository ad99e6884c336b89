import { describe, expect, test } from "vitest";
import { awkwardSizes, relativeError } from "../../../tests/conformance/harness.js";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { linear, matmul, zeros } from "../index.js";

const product = (a: Shape, b: Shape, options: { transposeA?: boolean; transposeB?: boolean } = {}): OpCase => ({
  name: `[${a}]${options.transposeA ? "'" : ""} times [${b}]${options.transposeB ? "'" : ""}`,
  inputs: [normal(a), normal(b)],
  apply: (x, y) => matmul(x!, y!, options),
});

checkOps("matmul", [
  product([1, 1], [1, 1]),
  product([3, 4], [4, 5]),
  product([5, 3], [5, 4], { transposeA: true }),
  product([3, 5], [4, 5], { transposeB: true }),
  product([5, 3], [4, 5], { transposeA: true, transposeB: true }),
  product([2, 3, 4], [2, 4, 5]),
  product([2, 3, 4], [4, 5]),
  product([3, 4], [2, 4, 5]),
  product([3, 4], [2, 5, 4], { transposeB: true }),
  product([4, 3], [2, 4, 2], { transposeA: true }),
  product([2, 1, 3, 4], [5, 4, 2]),
  product([4], [4]),
  product([4], [2, 4, 3]),
  product([2, 3, 4], [4]),
  product([1, 17], [17, 9]),
  {
    name: "linear with bias",
    inputs: [normal([2, 3, 5]), normal([4, 5]), normal([4])],
    apply: (x, weight, bias) => linear({ x: x!, weight: weight!, bias: bias! }, {}),
  },
  {
    name: "linear of a vector, no bias",
    inputs: [normal([5]), normal([4, 5])],
    apply: (x, weight) => linear({ x: x!, weight: weight!, bias: null }, {}),
  },
]);

describe("matmul", () => {
  test("agrees with float64 around the SIMD width", () => {
    for (const n of awkwardSizes) {
      const [a, b] = [normal([3, n]), normal([n, 5])];
      const y = a.cast("float32").matmul(b.cast("float32")).dataSync();
      // The error of k float32 products and sums grows with the square root of k.
      expect(relativeError(y, a.matmul(b).dataSync())).toBeLessThan(1e-6 * Math.max(1, Math.sqrt(n) / 8));
    }
  });

  test("types promote, empty sides give zeros", () => {
    expect(zeros([2, 3]).matmul(zeros([3, 2], { dtype: "float64" })).dtype).toBe("float64");
    expect(
      zeros([2, 0])
        .matmul(zeros([0, 3]))
        .toArray(),
    ).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
    expect(zeros([0, 3]).matmul(zeros([3, 4])).shape).toEqual([0, 4]);
  });

  test.each([
    ["inner lengths", () => matmul(zeros([2, 3]), zeros([2, 3])), /with one k; got \[2, 3\] and \[2, 3\]/],
    [
      "transposed inner lengths",
      () => matmul(zeros([2, 3]), zeros([3, 2]), { transposeB: true }),
      /\[3, 2\] \(second transposed\)/,
    ],
    ["scalars", () => matmul(zeros([]), zeros([2])), /rank 1 or more; got \[\] and \[2\]/],
    ["batches", () => matmul(zeros([2, 3, 4]), zeros([3, 4, 5])), /broadcast.*\[2\] and \[3\]/],
  ])("refuses unfit %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
