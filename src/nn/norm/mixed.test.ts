import { describe, expect, test } from "vitest";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { randn, type Tensor, tensor } from "../../autograd/index.js";
import { evoNormB0, evoNormS0 } from "../../autograd/ops/evo_norm.js";
import { instanceMoments, mergeMoments } from "../../autograd/ops/instance_moments.js";
import { switchableNorm } from "../../autograd/ops/switchable_norm.js";
import type { DType } from "../../base/dtype.js";
import { DTypeError, OptionError, ShapeError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { BatchNorm, EvoNormB0, EvoNormS0, GroupNorm, InstanceNorm1d, noStatsUpdate, SwitchableNorm } from "./index.js";

const random = new Random(41);
const draw = (shape: Shape, dtype: DType = "float32") => randn(shape, { dtype, random });
const values = (t: Tensor) => [...t.dataSync()];
const numberOf = (t: Tensor | null) => t!.item();

normContract({
  name: "SwitchableNorm",
  make: (o) => new SwitchableNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "mean_weight", "var_weight", "running_mean", "running_var", "num_batches_tracked"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 3], works: true },
  constant: "bias",
  // Layer statistics reach all of a sample, batch statistics all of a channel.
  spreads: (a, b) => a[0] === b[0] || a[1] === b[1],
  sameInEval: false,
});

normContract({
  name: "EvoNormB0",
  make: (o) => new EvoNormB0(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "v", "running_var", "num_batches_tracked"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

normContract({
  name: "EvoNormS0",
  make: (o) => new EvoNormS0(4, { groups: 2, ...o }),
  shape: [2, 4, 3],
  state: ["weight", "bias", "v"],
  wrong: [2, 6, 3],
  lone: { shape: [1, 4, 1], works: true },
  constant: "finite",
  spreads: (a, b) => a[0] === b[0] && a[1]! >> 1 === b[1]! >> 1,
  sameInEval: true,
});

type Ts = (Tensor | undefined)[];

const columns = [
  { shape: [3, 5, 4], axis: 1 },
  { shape: [2, 3, 3, 2], axis: 1 },
  { shape: [2, 3, 4], axis: -1 },
];

checkOps(
  "switchable normalization",
  columns.flatMap(({ shape, axis }) => {
    const channels = shape.at(axis)!;
    const mixture = (kinds: number) => [normal([kinds]), normal([kinds])];
    const apply =
      (variance: "biased" | "unbiased", given?: { mean: Tensor; variance: Tensor }) =>
      (...[x, weight, bias, meanWeight, varWeight]: Ts) =>
        switchableNorm(
          { x: x!, weight: weight!, bias: bias!, meanWeight: meanWeight!, varWeight: varWeight! },
          { axis, eps: 1e-3, variance, ...(given ? { given } : {}) },
        ).out;
    const inputs = () => [normal(shape, 0.5), normal([channels]), normal([channels])];
    const given = { mean: normal([channels]), variance: normal([channels]).square() };
    const name = `[${shape}], axis ${axis}`;
    return [
      { name, inputs: [...inputs(), ...mixture(3)], apply: apply("biased") },
      { name: `${name}, unbiased`, inputs: [...inputs(), ...mixture(3)], apply: apply("unbiased") },
      {
        name: `${name}, without batch`,
        inputs: [...inputs(), ...mixture(2)],
        apply: apply("biased"),
        // The gradient to two shares is one number and its negative: what is left of sums over all of x.
        float32: 4e-6,
      },
      { name: `${name}, running`, inputs: [...inputs(), ...mixture(3)], apply: apply("biased", given) },
    ];
  }),
);

checkOps(
  "EvoNorm",
  columns.flatMap(({ shape, axis }) => {
    const channels = shape.at(axis)!;
    const inputs = () => [normal(shape, 0.5), normal([channels]), normal([channels]), normal([channels], 1, 0.5)];
    const groups = channels % 2 === 0 ? 2 : 1;
    return [
      {
        name: `B0 of [${shape}], axis ${axis}`,
        inputs: inputs(),
        apply: (...[x, weight, bias, v]: Ts) =>
          evoNormB0({ x: x!, weight: weight!, bias: bias!, v: v! }, { axis, eps: 1e-3 }).out,
        // Its ratio goes back by a kernel.
        twice: false,
      },
      {
        name: `S0 of [${shape}], axis ${axis}`,
        inputs: inputs(),
        apply: (...[x, weight, bias, v]: Ts) =>
          evoNormS0({ x: x!, weight: weight!, bias: bias!, v: v! }, { axis, eps: 1e-3, groups }),
        // v's gradient is a sum of products of either sign, small beside its terms, whose rounding stays: 1.02e-6 was seen.
        float32: 2e-6,
      },
    ];
  }),
);

describe("merged moments", () => {
  test("are those of the union, also far from 0", () => {
    const x = draw([3, 4, 5], "float64").add(1e6);
    const close = (got: Tensor, want: Tensor) => {
      const w = values(want);
      for (const [i, v] of values(got).entries()) expect(Math.abs(v / w[i]! - 1)).toBeLessThan(1e-8);
    };
    const own = instanceMoments(x, 1);
    for (const [axis, axes] of [
      [0, [0, 2]],
      [1, [1, 2]],
    ] as const) {
      const { mean, variance } = mergeMoments(own, axis);
      close(mean, x.mean(axes));
      close(variance, x.variance(axes, { correction: 0 }));
    }
  });
});

describe("SwitchableNorm", () => {
  const x = draw([3, 4, 5], "float64").mul(2).add(1);
  const only = (kind: number) => {
    const layer = new SwitchableNorm(4, { dtype: "float64" });
    for (const w of [layer.meanWeight, layer.varWeight]) w.assign([0, 1, 2].map((k) => (k === kind ? 0 : -1e4)));
    return layer;
  };

  test("with all weight on one kind it is that normalization", () => {
    const o = { dtype: "float64" as const };
    const kinds = [new InstanceNorm1d(4, o), new GroupNorm(1, 4, o), new BatchNorm(4, o)];
    for (const [k, kind] of kinds.entries()) {
      const [got, want] = [only(k).forward(x), kind.forward(x)].map(values) as [number[], number[]];
      for (const [i, v] of got.entries()) expect(v).toBeCloseTo(want[i]!, 13);
    }
  });

  test("running statistics are those of batch normalization", () => {
    const [layer, bn] = [new SwitchableNorm(4, { momentum: 0.3 }), new BatchNorm(4, { momentum: 0.3 })];
    for (let i = 0; i < 3; i++) {
      const batch = draw([3, 4, 5]);
      layer.forward(batch);
      bn.forward(batch);
    }
    for (const name of ["runningMean", "runningVar"] as const) {
      for (const [i, v] of values(layer[name]!).entries()) expect(v).toBeCloseTo(values(bn[name]!)[i]!, 6);
    }
    expect(numberOf(layer.numBatchesTracked)).toBe(3);
    noStatsUpdate(() => layer.forward(draw([3, 4, 5])));
    expect(numberOf(layer.numBatchesTracked)).toBe(3);
  });

  test("its options", () => {
    expect(values(new SwitchableNorm(4, { lastGamma: true }).weight!)).toEqual([0, 0, 0, 0]);
    expect(new SwitchableNorm(4, { useMovingAverage: false }).momentum).toBeNull();
    const alone = new SwitchableNorm(4, { useBatchNorm: false, dtype: "float64", affine: false });
    expect(Object.keys(alone.stateDict())).toEqual(["mean_weight", "var_weight"]);
    expect(alone.meanWeight.dtype).toBe("float64");
    expect(values(alone.forward(x))).toEqual(values(alone.eval().forward(x)));
    expect(() => new SwitchableNorm(4, { lastGama: true } as object)).toThrow(/Did you mean "lastGamma"/);
    expect(() => new SwitchableNorm(4, { useBatchNorm: 1 } as object)).toThrow(OptionError);
    const guard = new SwitchableNorm(4, { runningStats: "guard" });
    guard.forward(tensor(new Float32Array(60).fill(Number.NaN), { shape: [3, 4, 5] }));
    expect([guard.skippedUpdates, numberOf(guard.numBatchesTracked)]).toEqual([1, 0]);
  });

  test("what it cannot normalize", () => {
    expect(() => new SwitchableNorm(4).forward(draw([3, 4]))).toThrow(/at least one spatial axis; got \[3, 4\]/);
    expect(() => new SwitchableNorm(4).forward(draw([3, 4, 1]))).toThrow(/more than one value for each sample/);
    expect(() => new SwitchableNorm(4).forward(draw([0, 4, 5]))).toThrow(ShapeError);
    expect(new SwitchableNorm(4).eval().forward(draw([0, 4, 5])).shape).toEqual([0, 4, 5]);
  });
});

describe("EvoNorm", () => {
  test("without nonlinearity it is an affine map", () => {
    for (const layer of [new EvoNormB0(2, { nonlinear: false }), new EvoNormS0(2, { nonlinear: false, groups: 1 })]) {
      expect(Object.keys(layer.stateDict())).toEqual(["weight", "bias"]);
      layer.weight.assign([2, -1]);
      layer.bias.assign([1, 0.5]);
      expect(
        values(
          layer.forward(
            tensor([
              [
                [1, 2],
                [3, 4],
              ],
            ]),
          ),
        ),
      ).toEqual([3, 5, -2.5, -3.5]);
    }
  });

  test("running variance, momentum and guard", () => {
    const layer = new EvoNormB0(1, { momentum: 0.25, dtype: "float64", runningStats: "guard" });
    layer.forward(tensor([[[1, 3]], [[5, 7]]], { dtype: "float64" }));
    // The unbiased variance of 1, 3, 5, 7 is 20 / 3.
    expect(values(layer.runningVar!)[0]).toBeCloseTo(0.75 + 0.25 * (20 / 3), 13);
    layer.forward(tensor([[[1, Number.NaN]], [[5, 7]]], { dtype: "float64" }));
    expect([layer.skippedUpdates, numberOf(layer.numBatchesTracked)]).toEqual([1, 1]);
    noStatsUpdate(() => layer.forward(draw([2, 1, 2], "float64")));
    expect(numberOf(layer.numBatchesTracked)).toBe(1);
    expect(() => layer.forward(draw([0, 1, 2], "float64"))).toThrow(/empty batch/);
    expect(layer.eval().forward(draw([0, 1, 2], "float64")).shape).toEqual([0, 1, 2]);
  });

  test("groups, ranks and types", () => {
    expect(() => new EvoNormS0(48)).toThrow(/32 groups for 48 channels/);
    expect(() => new EvoNormS0(4, { groups: 2 }).forward(draw([3, 4]))).toThrow(ShapeError);
    expect(() => new EvoNormB0(4, { nonlinear: false }).forward(draw([3, 4, 2], "float64"))).toThrow(DTypeError);
    expect(() => new EvoNormB0(4, { momentum: 2 })).toThrow(OptionError);
  });
});
