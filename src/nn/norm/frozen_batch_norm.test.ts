import { describe, expect, test } from "vitest";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal, positive } from "../../../tests/conformance/op_harness.js";
import { randn, type Tensor } from "../../autograd/index.js";
import type { DType } from "../../base/dtype.js";
import { OptionError, ShapeError, StateError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { BatchNorm, FrozenBatchNorm, InstanceNorm2d } from "./index.js";

const random = new Random(5);
const values = (t: Tensor) => [...t.dataSync()];

normContract({
  name: "FrozenBatchNorm",
  make: (o) => new FrozenBatchNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "running_mean", "running_var"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: true },
  constant: "finite",
  spreads: [],
  sameInEval: true,
});

function stirred(dtype: DType): FrozenBatchNorm {
  const layer = new FrozenBatchNorm(2, { dtype, eps: 1e-3 });
  layer.weight.assign([1.5, -0.75]);
  layer.bias.assign([0.25, 2]);
  layer.runningMean.assign([2, -1]);
  layer.runningVar.assign([0.5, 3]);
  return layer;
}

const [small, large] = [stirred("float32"), stirred("float64")];

checkOps("FrozenBatchNorm", [
  {
    name: "[3, 2, 5]",
    inputs: [normal([3, 2, 5], 2)],
    apply: (x) => (x!.dtype === "float32" ? small : large).forward(x!),
  },
]);

describe("FrozenBatchNorm", () => {
  for (const [shape, x] of [
    [3, [4, 3, 2]],
    [
      [3, 2],
      [4, 3, 2],
    ],
  ] as const) {
    test(`from(BatchNorm(${JSON.stringify(shape)})) evaluates like it, in training too, and shares nothing with it`, () => {
      const bn = new BatchNorm(shape as number, { eps: 1e-3 });
      bn.weight!.assign(normal(bn.featureShape).dataSync());
      bn.bias!.assign(normal(bn.featureShape).dataSync());
      bn.runningVar!.assign(positive(bn.featureShape).dataSync());
      bn.forward(randn(x, { random }));
      const input = randn(x, { random });
      const frozen = FrozenBatchNorm.from(bn);
      expect(frozen.training).toBe(true);
      const want = values(bn.eval().forward(input));
      expect(values(frozen.forward(input))).toEqual(want);
      expect(frozen.parameters()).toEqual([]);
      bn.train().forward(randn(x, { random }));
      bn.weight!.assign(normal(bn.featureShape).dataSync());
      expect(values(frozen.forward(input))).toEqual(want);
    });
  }

  test("from() takes an affine that features share", () => {
    const bn = new BatchNorm([2, 3], { affineShape: [3] });
    bn.weight!.assign([2, 3, 4]);
    expect(values(FrozenBatchNorm.from(bn).weight)).toEqual([2, 3, 4, 2, 3, 4]);
  });

  test("from() wants running statistics, and sizes are checked", () => {
    expect(() => FrozenBatchNorm.from(new BatchNorm(3, { trackRunningStats: false }))).toThrow(StateError);
    expect(() => FrozenBatchNorm.from(new InstanceNorm2d(3))).toThrow(
      /takes a layer with running statistics; got Inst/,
    );
    expect(() => new FrozenBatchNorm(0)).toThrow(OptionError);
    expect(() => new FrozenBatchNorm([3, 2]).forward(randn([4, 2, 3]))).toThrow(ShapeError);
  });
});
