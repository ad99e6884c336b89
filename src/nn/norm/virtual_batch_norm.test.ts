import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { concat, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { batchNorm } from "../../autograd/ops/batch_norm.js";
import { virtualBatchNorm } from "../../autograd/ops/virtual_batch_norm.js";
import { NonFiniteError, ShapeError, StateError } from "../../base/errors.js";
import { type Moments, momentsOf } from "../../norm/moments.js";
import { BatchNorm, noStatsUpdate, VirtualBatchNorm } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

normContract({
  name: "VirtualBatchNorm",
  uncaptured: "it looks whether it has a reference",
  make: (o) => new VirtualBatchNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "reference_mean", "reference_var", "reference_count"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 3], works: true },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

checkOps(
  "virtual batch normalization",
  [
    { shape: [3, 2, 5], axis: 1 },
    { shape: [2, 3, 2, 3], axis: -1 },
    { shape: [4, 3], axis: 1 },
  ].map(({ shape, axis }) => {
    const channels = shape.at(axis)!;
    const moments = Array.from({ length: channels }, (_, c) => momentsOf([c, 1, -1.5, 2.5 * c]));
    const of = (number: (m: Moments) => number) => tensor(Float64Array.from(moments, number));
    const reference = { mean: of((m) => m.mean), variance: of((m) => m.m2 / m.count), count: 4 };
    return {
      name: `[${shape}], axis ${axis}`,
      inputs: [normal(shape, 1), normal([channels]), normal([channels])],
      apply: (x?: Tensor, weight?: Tensor, bias?: Tensor) =>
        virtualBatchNorm({ x: x!, weight: weight!, bias: bias! }, { axis, eps: 1e-3, reference }),
      twice: false,
    };
  }),
);

describe("VirtualBatchNorm", () => {
  test("each example is normalized as the last of the reference batch and itself would be", () => {
    const [reference, x] = [normal([6, 3, 4], 2), normal([3, 3, 4], 1)];
    const layer = new VirtualBatchNorm(3, { dtype: "float64" });
    layer.weight!.assign([1.5, -2, 0.5]);
    layer.bias!.assign([1, 2, 3]);
    layer.setReference(reference);
    const y = values(layer.forward(x));
    const { weight, bias } = layer;
    const want = [0, 1, 2].flatMap((n) => {
      const joined = concat([reference, x.narrow(0, n, 1)]);
      return values(batchNorm({ x: joined, weight, bias }, { axis: 1, eps: 1e-5 }).out.narrow(0, 6, 1));
    });
    expect(relativeError(y, want)).toBeLessThanOrEqual(1e-14);
    expect(values(layer.eval().forward(x))).toEqual(y);
    // Nobody sees the others.
    expect(values(layer.forward(x.narrow(0, 1, 1)))).toEqual(y.slice(12, 24));
  });

  test("the first training batch becomes the reference, normalized as a batch", () => {
    const [x, other] = [normal([4, 3, 5], 3), normal([2, 3, 5])];
    const [first, second, bn] = [
      new VirtualBatchNorm(3, { dtype: "float64" }),
      new VirtualBatchNorm(3, { dtype: "float64" }),
      new BatchNorm(3, { dtype: "float64" }),
    ];
    noStatsUpdate(() => first.forward(other));
    expect(first.hasReference).toBe(false);
    expect(values(first.forward(x))).toEqual(values(bn.forward(x)));
    second.setReference(x);
    expect(values(first.forward(other))).toEqual(values(second.forward(other)));
    expect(first.referenceCount.item()).toBe(20);
    first.clearReference();
    first.forward(other);
    expect(first.referenceCount.item()).toBe(10);
  });

  test("the reference survives saving", () => {
    const [a, b] = [new VirtualBatchNorm(3), new VirtualBatchNorm(3)];
    a.setReference(normal([5, 3, 2], 1e4).cast("float32"));
    b.loadStateDict(a.stateDict());
    const x = normal([2, 3, 2], 1e4).cast("float32");
    expect(values(b.eval().forward(x))).toEqual(values(a.eval().forward(x)));
  });

  test("empty inputs", () => {
    const layer = new VirtualBatchNorm(3);
    layer.setReference(normal([5, 3, 2]).cast("float32"));
    for (const shape of [
      [0, 3, 2],
      [2, 3, 0],
    ]) {
      layer.zeroGrad();
      expect(layer.forward(zeros(shape)).shape).toEqual(shape);
      expect(layer.backward(zeros(shape)).shape).toEqual(shape);
      expect([...values(layer.weight!.grad), ...values(layer.bias!.grad)]).toEqual([0, 0, 0, 0, 0, 0]);
    }
  });

  test("accuracy in float32 with the mean at 1e4 standard deviations", () => {
    const [reference, x, dy] = [normal([9, 3, 7], 1e4), normal([4, 3, 70], 1e4), normal([4, 3, 70])];
    const [small, large] = (["float32", "float64"] as const).map((dtype) => {
      const layer = new VirtualBatchNorm(3, { dtype });
      layer.setReference(reference.cast(dtype));
      const results = [layer.forward(x.cast(dtype)), layer.backward(dy.cast(dtype))];
      return [...results, layer.weight!.grad!, layer.bias!.grad!].map((t) => t.dataSync());
    });
    for (const i of [0, 1, 2, 3]) expect(relativeError(small![i]!, large![i]!)).toBeLessThanOrEqual(2.5e-7);
  });

  test("what does not go", () => {
    const layer = new VirtualBatchNorm(2);
    const x = tensor([
      [1, 2],
      [3, Number.NaN],
      [5, 6],
    ]);
    expect(() => layer.eval().forward(x)).toThrow(StateError);
    expect(() => layer.setReference(x)).toThrow(NonFiniteError);
    expect(() => layer.setReference(tensor([[1, 2]]))).toThrow(ShapeError);
    expect(() => layer.setReference(tensor([[1], [2]]))).toThrow(ShapeError);
    layer.train().forward(x);
    expect(layer.hasReference).toBe(false);
    expect(() => new VirtualBatchNorm(2, { axis: 0 }).setReference(x)).toThrow(ShapeError);
  });
});
