import { describe, expect, test } from "vitest";
import { awkwardSizes, relativeError } from "../../../tests/conformance/harness.js";
import { checkOps, distinct, normal, type OpCase, positive } from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { grad, type Tensor, tensor, zeros } from "../index.js";

type Axes = number | number[] | undefined;
const places: [Shape, Axes][] = [
  [[5], undefined],
  [[17], 0],
  [[3, 33], 1],
  [[33, 3], 0],
  [[2, 3, 4], 1],
  [
    [2, 3, 4, 5],
    [0, 2],
  ],
  [
    [2, 3, 4],
    [-1, 0],
  ],
  [[2, 3], []],
  [[], undefined],
];

const cases = (apply: (x: Tensor, axes: Axes) => Tensor, values: (shape: Shape) => Tensor, name: string): OpCase[] =>
  places.map(([shape, axes]) => ({
    name: `${name} of [${shape}] over ${axes ?? "all"}`,
    inputs: [values(shape)],
    apply: (x) => apply(x!, axes),
  }));

checkOps("reduction", [
  ...cases((x, a) => x.sum(a), normal, "sum"),
  ...cases((x, a) => x.mean(a, true), normal, "mean"),
  ...cases((x, a) => x.max(a), distinct, "max"),
  ...cases((x, a) => x.min(a, { keepDim: true }), distinct, "min"),
  ...cases((x, a) => x.prod(a), positive, "prod"),
  ...cases((x, a) => x.variance(a, { correction: 0 }), normal, "biased variance"),
  {
    name: "prod with zeros",
    inputs: [tensor([1.5, 0, -2, 3, 0, 0, 2, 1, 5, -1, 0.5, 0], { dtype: "float64", shape: [2, 3, 2] })],
    apply: (x) => x!.prod([0, 2]),
  },
  { name: "variance of [2,3,4] over 0,2", inputs: [normal([2, 3, 4])], apply: (x) => x!.variance([0, 2]) },
]);

describe("reduction", () => {
  test("long sums agree with float64, around the SIMD width", () => {
    for (const n of awkwardSizes) {
      const x = normal([3, n, 2], 5);
      for (const axes of [0, 1, 2, [1, 2], undefined]) {
        const y = x.cast("float32").mean(axes).dataSync();
        expect(relativeError(y, x.mean(axes).dataSync())).toBeLessThan(1e-6);
      }
    }
  });

  test("equal extremes share the gradient", () => {
    const x = tensor([3, 1, 3, 3], { dtype: "float64", requiresGrad: true });
    const [third] = [1 / 3];
    expect(grad(x.max(), x).toArray()).toEqual([third, 0, third, third]);
  });

  test("variance counts the divisor as asked, and is exact far from 0", () => {
    const x = tensor([1e8, 1e8 + 1, 1e8 + 2], { dtype: "float64" });
    expect(x.variance().item()).toBe(1);
    expect(x.variance(undefined, { correction: 0 }).item()).toBeCloseTo(2 / 3, 12);
  });

  test("argMax names the first largest, without a gradient; NaN wins", () => {
    const x = tensor(
      [
        [1, 3, 3],
        [Number.NaN, 9, 2],
      ],
      { requiresGrad: true },
    );
    const at = x.argMax(1);
    expect(at.dtype).toBe("int32");
    expect(at.toArray()).toEqual([1, 0]);
    expect(x.argMax(0, true).shape).toEqual([1, 3]);
    expect(at.requiresGrad).toBe(false);
    expect(x.slice([0, 0], [1, 3]).argMax().item()).toBe(1);
  });

  test("a product with one zero has the gradient of the others there", () => {
    const x = tensor([2, 0, 5], { dtype: "float64", requiresGrad: true });
    expect(grad(x.prod(), x).toArray()).toEqual([0, 10, 0]);
    const y = tensor([0, 0, 5], { dtype: "float64", requiresGrad: true });
    expect(grad(y.prod(), y).toArray()).toEqual([0, 0, 0]);
  });

  test.each([
    ["an axis outside", () => zeros([2, 3]).sum(2), /axis must lie in \[-2, 1\] for rank 2; got 2/],
    ["an axis twice", () => zeros([2, 3]).sum([1, -1]), /once/],
    ["the maximum of nothing", () => zeros([2, 0]).max(1), /at least one element; got shape \[2, 0\]/],
  ])("refuses %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
