import { describe, expect, test } from "vitest";
import { checkOps, normal, positive } from "../../../tests/conformance/op_harness.js";
import { grad, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { softmax } from "../../autograd/ops/softmax.js";
import type { Shape } from "../../base/shape.js";
import { CrossEntropyLoss, crossEntropy } from "./cross_entropy.js";

const classes = (shape: Shape, values: number[]) => tensor(values, { dtype: "int32" }).reshape(shape);
const three = classes([4], [0, 2, 1, 2]);
const weight = positive([3]);
const shares = softmax(normal([4, 3]));

checkOps("cross_entropy", [
  ...[1, 3, 4, 5, 15, 16, 17, 31, 33].map((n) => ({
    name: `${n} classes`,
    inputs: [normal([3, n])],
    apply: (x: unknown) => crossEntropy(x as Tensor, classes([3], [0, n - 1, Math.floor(n / 2)])),
  })),
  { name: "smoothing", inputs: [normal([4, 3])], apply: (x) => crossEntropy(x!, three, { labelSmoothing: 0.2 }) },
  {
    name: "smoothing, weight, ignored, sum",
    inputs: [normal([4, 3])],
    apply: (x) => crossEntropy(x!, three, { labelSmoothing: 0.2, weight, ignoreIndex: 2, reduction: "sum" }),
  },
  { name: "weight", inputs: [normal([4, 3])], apply: (x) => crossEntropy(x!, three, { weight }) },
  {
    name: "none, ignored",
    inputs: [normal([4, 3])],
    apply: (x) => crossEntropy(x!, three, { reduction: "none", ignoreIndex: 1 }),
  },
  {
    name: "spatial",
    inputs: [normal([2, 3, 2, 2])],
    apply: (x) =>
      crossEntropy(x!, classes([2, 2, 2], [0, 1, 2, 0, 1, 2, 0, 1]), { reduction: "none", labelSmoothing: 0.1 }),
  },
  { name: "one row without batch", inputs: [normal([3])], apply: (x) => crossEntropy(x!, classes([], [1])) },
  {
    name: "probabilities, differentiated by both",
    inputs: [normal([4, 3]), shares],
    apply: (x, q) => crossEntropy(x!, q!, { labelSmoothing: 0.1, weight }),
  },
]);

describe("crossEntropy", () => {
  test("probabilities of one class each are the same as class numbers", () => {
    const x = normal([4, 3]);
    const oneHot = tensor(
      [
        [1, 0, 0],
        [0, 0, 1],
        [0, 1, 0],
        [0, 0, 1],
      ],
      { dtype: "float64" },
    );
    for (const labelSmoothing of [0, 0.3]) {
      const [a, b] = [three, oneHot].map((t) => crossEntropy(x, t, { labelSmoothing, reduction: "none" }).dataSync());
      for (const [i, v] of a!.entries()) expect(v).toBeCloseTo(b![i]!, 14);
    }
  });

  test("ignored rows count neither in the mean nor in the gradient", () => {
    const x = normal([4, 3]);
    x.requiresGrad = true;
    const some = crossEntropy(x, three, { ignoreIndex: 2 });
    const kept = crossEntropy(x.detach().slice([0, 0], [1, 3]), classes([1], [0]));
    const other = crossEntropy(x.detach().slice([2, 0], [1, 3]), classes([1], [1]));
    expect(some.item()).toBeCloseTo((kept.item() + other.item()) / 2, 14);
    const g = grad(some, x).toArray() as number[][];
    expect(g[1]).toEqual([0, 0, 0]);
    expect(g[3]).toEqual([0, 0, 0]);
    expect(Math.abs(g[0]![0]!)).toBeGreaterThan(0);
  });

  test("stays finite and exact for a class that is certain, in float32", () => {
    const x = tensor([[200, -200, 0]], { requiresGrad: true });
    const right = crossEntropy(x, classes([1], [0]));
    expect(right.item()).toBe(0);
    const wrong = crossEntropy(x, classes([1], [1]));
    expect(wrong.item()).toBe(400);
    expect(grad(wrong, x).toArray()).toEqual([[1, -1, 0]]);
  });

  test("the layer keeps its options and holds the weight as a buffer", () => {
    const x = normal([4, 3]);
    const layer = new CrossEntropyLoss({ weight, labelSmoothing: 0.1, ignoreIndex: 1, dtype: "float64" });
    const want = crossEntropy(x, three, { weight, labelSmoothing: 0.1, ignoreIndex: 1 });
    expect(layer.forward(x, three).item()).toBe(want.item());
    expect(Object.keys(layer.stateDict())).toEqual(["weight"]);
    expect(layer.parameters()).toEqual([]);
  });

  const x = zeros([2, 3]);
  const good = classes([2], [0, 1]);
  test.each([
    [
      "a class too large",
      () => crossEntropy(x, classes([2], [0, 3])),
      /from 0 to 2, or ignoreIndex -100; got 3 in row 1/,
    ],
    ["a negative class", () => crossEntropy(x, classes([2], [-1, 0])), /got -1 in row 0/],
    ["float classes", () => crossEntropy(x, tensor([0, 1])), /int32.*got float32 targets of shape \[2\]/],
    ["another shape", () => crossEntropy(x, classes([1, 2], [0, 1])), /shape \[2\]; got \[1, 2\]/],
    ["int logits", () => crossEntropy(x.cast("int32"), good), /float logits.*int32/],
    ["a wrong weight", () => crossEntropy(x, good, { weight: zeros([2]) }), /3 classes, shape \[3\]; got \[2\]/],
    ["an unknown reduction", () => crossEntropy(x, good, { reduction: "average" as "mean" }), /mean, sum or none/],
    ["an unknown option", () => crossEntropy(x, good, { labelSmooting: 1 } as object), /Did you mean "labelSmoothing"/],
    ["smoothing above 1", () => crossEntropy(x, good, { labelSmoothing: 2 }), /in \[0, 1\]; got 2/],
  ])("refuses %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
