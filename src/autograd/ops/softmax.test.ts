import { describe, expect, test } from "vitest";
import { awkwardSizes } from "../../../tests/conformance/harness.js";
import { checkOps, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import { tensor, zeros } from "../index.js";
import { logSoftmax, softmax } from "./softmax.js";

checkOps(
  "softmax",
  [softmax, logSoftmax].flatMap((f): OpCase[] => [
    ...awkwardSizes
      .filter((n) => n < 100)
      .map((n) => ({
        name: `${f.name} of rows of ${n}`,
        inputs: [normal([3, n])],
        apply: (x: unknown) => f(x as never),
      })),
    { name: `${f.name} along axis 0 of [5, 3]`, inputs: [normal([5, 3])], apply: (x) => f(x!, 0) },
    { name: `${f.name} along axis 1 of [2, 4, 3]`, inputs: [normal([2, 4, 3])], apply: (x) => f(x!, 1) },
  ]),
);

describe("softmax", () => {
  test("shifts do not matter, large logits do not overflow, and rows sum to 1", () => {
    const x = tensor([
      [1, 2, 3],
      [1001, 1002, 1003],
      [-1e30, 0, 1e30],
    ]);
    const y = softmax(x).toArray() as number[][];
    expect(y[1]).toEqual(y[0]);
    expect(y[2]).toEqual([0, 0, 1]);
    for (const row of y) expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    expect(logSoftmax(x).toArray()[2 as never]).toEqual([-2e30, -1e30, 0].map(Math.fround));
  });

  test("int32 becomes float32; an axis outside the rank is refused", () => {
    expect(softmax(tensor([1, 1], { dtype: "int32" })).toArray()).toEqual([0.5, 0.5]);
    expect(() => softmax(zeros([2, 3]), 2)).toThrow(/softmax axis must lie in \[-2, 1\] for rank 2; got 2/);
  });
});
