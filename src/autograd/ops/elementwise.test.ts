import { describe, expect, test } from "vitest";
import { awkwardSizes, relativeError } from "../../../tests/conformance/harness.js";
import {
  awayFromZero,
  checkOps,
  distinct,
  normal,
  type OpCase,
  positive,
} from "../../../tests/conformance/op_harness.js";
import type { Shape } from "../../base/shape.js";
import { grad, type Tensor, tensor, where, zeros } from "../index.js";

type Unary = "neg" | "abs" | "square" | "sqrt" | "rsqrt" | "reciprocal" | "exp" | "log" | "log1p" | "expm1" | "tanh";
type UnaryName = Unary | "erf" | "sigmoid" | "softplus" | "sin" | "cos";
const domains: Record<UnaryName, (shape: Shape) => Tensor> = {
  ...{ neg: normal, square: normal, exp: normal, expm1: normal, tanh: normal, erf: normal, sigmoid: normal },
  ...{ softplus: normal, sin: normal, cos: normal, abs: awayFromZero, log1p: positive },
  ...{ sqrt: positive, rsqrt: positive, log: (shape) => positive(shape, 1.5, 4) },
  reciprocal: (shape) => awayFromZero(shape, 0.5),
};

checkOps(
  "unary",
  (Object.keys(domains) as UnaryName[]).flatMap((name): OpCase[] =>
    [1, 3, 4, 5, 17, 33].map((n) => ({
      name: `${name} of ${n}`,
      inputs: [domains[name]([n])],
      apply: (x) => x![name](),
    })),
  ),
);

type BinaryName = "add" | "sub" | "mul" | "div" | "maximum" | "minimum";
const shapes: [Shape, Shape][] = [
  [[5], [5]],
  [[17], []],
  [[], [3]],
  [
    [4, 3],
    [4, 1],
  ],
  [
    [2, 1, 5],
    [3, 1],
  ],
  [[3], [2, 4, 3]],
  [
    [2, 3, 1, 4],
    [3, 5, 1],
  ],
];

checkOps(
  "binary",
  (["add", "sub", "mul", "div", "maximum", "minimum"] as BinaryName[]).flatMap((name): OpCase[] =>
    shapes.map(([a, b]) => ({
      name: `${name} [${a}] and [${b}]`,
      // Offset by an eighth, so that no two values tie and none is near 0.
      inputs: [distinct(a), distinct(b).add(0.125)],
      apply: (x, y) => x![name](y!),
    })),
  ),
);

checkOps("pow", [
  ...shapes.map(
    ([a, b]): OpCase => ({
      name: `[${a}] to the [${b}]`,
      inputs: [positive(a), normal(b)],
      apply: (x, y) => x!.pow(y!),
    }),
  ),
  { name: "negative base, whole exponent", inputs: [awayFromZero([9])], apply: (x) => x!.pow(3) },
  { name: "number exponent", inputs: [positive([9])], apply: (x) => x!.pow(-0.5) },
]);

checkOps(
  "where",
  shapes.map(
    ([a, b]): OpCase => ({
      name: `[${a}] and [${b}]`,
      inputs: [normal(a), normal(b)],
      apply: (x, y) => where(tensor([1, 0, 1], { dtype: "int32" }).reshape([3, 1, 1, 1, 1]), x!, y!),
    }),
  ),
);

describe("elementwise", () => {
  test("long rows agree in both types, around the SIMD width", () => {
    for (const n of awkwardSizes) {
      const [a, b] = [normal([3, n]), awayFromZero([n])];
      const want = a.mul(b).add(a.div(b)).sub(0.5).dataSync();
      const [a32, b32] = [a.cast("float32"), b.cast("float32")];
      expect(relativeError(a32.mul(b32).add(a32.div(b32)).sub(0.5).dataSync(), want)).toBeLessThan(1e-6);
    }
  });

  test("ties share the gradient, a constant base 0 does not spoil the exponent's", () => {
    const x = tensor([1, 2, 3], { dtype: "float64", requiresGrad: true });
    const y = tensor([1, 5, 0], { dtype: "float64" });
    const ones = tensor([1, 1, 1], { dtype: "float64" });
    expect(grad(x.maximum(y), x, { gradOutput: ones }).toArray()).toEqual([0.5, 0, 1]);
    expect(grad(x.minimum(y), x, { gradOutput: ones }).toArray()).toEqual([0.5, 1, 0]);
    const p = tensor([2], { dtype: "float64", requiresGrad: true });
    expect(grad(tensor([0], { dtype: "float64" }).pow(p), p).toArray()).toEqual([0]);
    const zero = tensor([0, 0, 0], { dtype: "float64", requiresGrad: true });
    expect(grad(zero.pow(1), zero, { gradOutput: ones }).toArray()).toEqual([1, 1, 1]);
    expect(grad(zero.abs(), zero, { gradOutput: ones }).toArray()).toEqual([0, 0, 0]);
  });

  test("x^0 has gradient 0 everywhere, also at 0", () => {
    const x = tensor([0, 2], { dtype: "float64", requiresGrad: true });
    expect(grad(x.pow(0), x, { gradOutput: tensor([1, 1], { dtype: "float64" }) }).toArray()).toEqual([0, 0]);
  });

  test("one tensor on both sides gets both gradients", () => {
    const x = tensor([3], { dtype: "float64", requiresGrad: true });
    expect(grad(x.mul(x), x).toArray()).toEqual([6]);
    expect(grad(x.sub(x), x).toArray()).toEqual([0]);
    expect(grad(x.div(x), x).toArray()).toEqual([0]);
  });

  test("types promote, and each side gets its gradient in its own type", () => {
    const a = tensor([1.5], { requiresGrad: true });
    const b = tensor([2], { dtype: "float64", requiresGrad: true });
    const i = tensor([3], { dtype: "int32" });
    expect(a.mul(b).dtype).toBe("float64");
    expect(a.add(i).dtype).toBe("float32");
    expect(i.add(1).dtype).toBe("int32");
    expect(i.add(0.5).toArray()).toEqual([3.5]);
    expect(i.neg().toArray()).toEqual([-3]);
    expect(i.exp().dtype).toBe("float32");
    const [da, db] = grad(a.mul(b), [a, b]);
    expect([da!.dtype, db!.dtype]).toEqual(["float32", "float64"]);
  });

  test("comparisons and predicates are 0 or 1 and carry no gradient", () => {
    const x = tensor([1, Number.NaN, 3], { requiresGrad: true });
    expect(x.greater(2).toArray()).toEqual([0, 0, 1]);
    expect(x.notEqual(x).toArray()).toEqual([0, 1, 0]);
    expect(x.isNaN().toArray()).toEqual([0, 1, 0]);
    expect(x.lessEqual(1).logicalNot().toArray()).toEqual([0, 1, 1]);
    expect(grad(x.floor().sum(), x).toArray()).toEqual([0, 0, 0]);
  });

  test("where takes numbers and does not let NaN of the other branch into the gradient", () => {
    const x = tensor([-1, 4], { dtype: "float64", requiresGrad: true });
    const y = where(x.greater(0), x.sqrt(), 0);
    expect(y.toArray()).toEqual([0, 2]);
    expect(where(x.greater(0), 1, -1).toArray()).toEqual([-1, 1]);
    expect(grad(where(x.greater(0), x, 7), x, { gradOutput: tensor([2, 3], { dtype: "float64" }) }).toArray()).toEqual([
      0, 3,
    ]);
  });

  test("shapes that do not broadcast are named", () => {
    expect(() => zeros([2, 3]).add(zeros([2]))).toThrow(/\[2, 3\] and \[2\].*Reshape/);
    expect(() => zeros([2, 3]).add("1" as unknown as number)).toThrow(/a tensor or a number; got string/);
  });

  test("empty tensors go through", () => {
    const x = zeros([0, 3], { requiresGrad: true });
    const y = x
      .add(1)
      .mul(zeros([3]))
      .exp();
    expect(y.shape).toEqual([0, 3]);
    expect(grad(y.sum(), x).shape).toEqual([0, 3]);
    expect(zeros([0, 3]).sum(0).toArray()).toEqual([0, 0, 0]);
  });
});
