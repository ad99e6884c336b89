import { describe, expect, test } from "vitest";
import { checkOps, distinct, normal, type OpCase } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { tensor, zeros } from "../index.js";
import { adaptiveAvgPool, type OutputSize } from "./adaptive_avg_pool.js";
import { type AvgPoolOptions, avgPool } from "./avg_pool.js";
import { maxPool } from "./max_pool.js";
import type { PerAxis, PoolOptions } from "./windows.js";

const note = (options: object) =>
  Object.entries(options)
    .map(([k, v]) => `${k} ${v}`)
    .join(", ");

const max = (x: Shape, kernel: PerAxis, axes: number, options: PoolOptions = {}): OpCase => ({
  name: `max [${x}], kernel ${kernel}, ${note(options)}`,
  inputs: [distinct(x)],
  apply: (t) => maxPool(t!, kernel, axes, options),
});

const average = (x: Shape, kernel: PerAxis, axes: number, options: AvgPoolOptions = {}): OpCase => ({
  name: `average [${x}], kernel ${kernel}, ${note(options)}`,
  inputs: [normal(x)],
  apply: (t) => avgPool(t!, kernel, axes, options),
});

const adaptive = (x: Shape, size: OutputSize, axes: number): OpCase => ({
  name: `adaptive [${x}] to ${size}`,
  inputs: [normal(x)],
  apply: (t) => adaptiveAvgPool(t!, size, axes),
});

checkOps("max_pool", [
  max([2, 3, 17], 3, 1),
  max([2, 3, 6, 8], 2, 2),
  max([3, 5, 7], [3, 2], 2, { stride: [2, 1], padding: [1, 1] }),
  max([2, 2, 7, 9], 3, 2, { stride: 2, dilation: 2 }),
  max([1, 2, 5, 6], 2, 2, { ceilMode: true }),
  max([1, 2, 4, 5, 6], [2, 3, 2], 3, { stride: 2, padding: [1, 1, 0] }),
]);

checkOps("avg_pool", [
  average([2, 3, 17], 3, 1),
  average([2, 3, 6, 8], 2, 2),
  average([3, 5, 7], [3, 2], 2, { stride: [2, 1], padding: [1, 1] }),
  average([3, 5, 7], [3, 2], 2, { stride: [2, 1], padding: [1, 1], countIncludePad: false }),
  average([1, 2, 5, 6], 2, 2, { ceilMode: true, padding: 1 }),
  average([1, 2, 4, 5, 6], [2, 3, 2], 3, { stride: 2, padding: [1, 1, 0] }),
]);

checkOps("adaptive_avg_pool", [
  adaptive([2, 3, 17], 5, 1),
  adaptive([2, 3, 7, 5], 1, 2),
  adaptive([2, 3, 7, 5], [3, null], 2),
  adaptive([1, 2, 3, 3], [5, 4], 2),
  adaptive([1, 2, 3, 5, 4], [2, 3, 1], 3),
]);

describe("pooling", () => {
  test("padding never wins a maximum, the first of equals gets the gradient, NaN is passed on", () => {
    const x = tensor([-3, -3, -1, Number.NaN], { shape: [1, 1, 4], requiresGrad: true });
    const y = maxPool(x, 2, 1, { stride: 2, padding: 1 });
    expect(y.toArray()).toEqual([[[-3, -1, Number.NaN]]]);
    const z = maxPool(x, 2, 1);
    z.backward(tensor([[[5, 7]]]));
    expect(x.grad!.toArray()).toEqual([[[5, 0, 0, 7]]]);
  });

  test("an empty batch stays empty", () => {
    expect(maxPool(zeros([0, 2, 4, 4]), 2, 2).shape).toEqual([0, 2, 2, 2]);
    expect(avgPool(zeros([0, 2, 4, 4]), 2, 2).shape).toEqual([0, 2, 2, 2]);
    expect(adaptiveAvgPool(zeros([0, 2, 4, 4]), 1, 2).shape).toEqual([0, 2, 1, 1]);
  });

  test.each([
    ["size", () => maxPool(zeros([1, 1, 2, 2]), 3, 2), /maxPool2d needs an input that its window fits into: \[3, 3\]/],
    ["padding", () => maxPool(zeros([1, 1, 4]), 3, 1, { padding: 2 }), /at most half the kernel.*padding \[2\]/],
    ["rank", () => avgPool(zeros([4]), 2, 1), /avgPool1d takes \[batch, channels, length\].*\[4\]/],
    ["kernel", () => avgPool(zeros([1, 1, 4]), 1.5, 1), /kernelSize must be a whole number.*1.5/],
    ["output size", () => adaptiveAvgPool(zeros([1, 1, 4, 4]), [2], 2), /outputSize.*list of 2.*\[2\]/],
    ["empty input", () => adaptiveAvgPool(zeros([1, 1, 0, 4]), 2, 2), /needs an input with elements/],
  ])("says what is wrong with %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
