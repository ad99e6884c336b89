import { describe, expect, test } from "vitest";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { grad, tensor, zeros } from "../index.js";
import { embedding } from "./embedding.js";

const numbers = tensor(
  [
    [0, 3, 3],
    [4, 1, 3],
  ],
  { dtype: "int32" },
);

checkOps("embedding", [
  ...[1, 3, 4, 5, 17, 33].map((width) => ({
    name: `rows of ${width}`,
    inputs: [normal([5, width])],
    apply: (w: unknown) => embedding(numbers, w as never),
  })),
  {
    name: "one number without axes",
    inputs: [normal([5, 2])],
    apply: (w) => embedding(tensor(4, { dtype: "int32" }), w!),
  },
]);

describe("embedding", () => {
  test("a row that occurs three times gets three gradients, the padding row none", () => {
    const weight = zeros([5, 2], { requiresGrad: true });
    const dy = tensor(Array.from({ length: 12 }, (_, i) => i + 1)).reshape([2, 3, 2]);
    const plain = grad(embedding(numbers, weight), weight, { gradOutput: dy });
    expect(plain.toArray()).toEqual([
      [1, 2],
      [9, 10],
      [0, 0],
      [3 + 5 + 11, 4 + 6 + 12],
      [7, 8],
    ]);
    const padded = grad(embedding(numbers, weight, 3), weight, { gradOutput: dy });
    expect(padded.toArray()).toEqual([
      [1, 2],
      [9, 10],
      [0, 0],
      [0, 0],
      [7, 8],
    ]);
  });

  test("the padding row can be differentiated twice as well", () => {
    const weight = normal([5, 3]);
    weight.requiresGrad = true;
    const y = embedding(numbers, weight, 3).pow(3).sum();
    const first = grad(y, weight, { createGraph: true });
    const second = grad(first.sum(), weight).toArray() as number[][];
    const w = weight.toArray() as number[][];
    // Rows 0, 1 and 4 occur once: d2 w^3 = 6 w. Row 3 is padding, row 2 unused.
    for (const [r, row] of second.entries()) {
      for (const [i, v] of row.entries()) expect(v).toBeCloseTo(r === 2 || r === 3 ? 0 : 6 * w[r]![i]!, 12);
    }
  });

  test.each([
    [
      "a number too large",
      () => embedding(tensor([0, 5], { dtype: "int32" }), zeros([5, 2])),
      /0 to 4; got 5 as element 1/,
    ],
    ["a negative number", () => embedding(tensor([-1], { dtype: "int32" }), zeros([5, 2])), /got -1 as element 0/],
    ["floats", () => embedding(tensor([1]), zeros([5, 2])), /int32; got float32.*cast\("int32"\)/],
    ["no matrix", () => embedding(numbers, zeros([5])), /matrix \[rows, width\]; got \[5\]/],
  ])("refuses %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
