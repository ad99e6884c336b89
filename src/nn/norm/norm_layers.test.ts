import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { randn, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { OptionError, ShapeError, StateError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Module } from "../module.js";
import * as F from "./functional.js";
import {
  BatchNorm,
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  LayerNorm,
  noStatsUpdate,
  RMSNorm,
} from "./index.js";

const random = new Random(11);
const normal = (...shape: number[]) => randn(shape, { random });
const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

const affine = ["weight", "bias"];
const running = ["running_mean", "running_var", "num_batches_tracked"];
const none: string[] = [];

normContract({
  name: "BatchNorm",
  make: (o) => new BatchNorm(4, o),
  shape: [3, 4, 5],
  state: [...affine, ...running],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "bias",
  spreads: [0, 2],
  sameInEval: false,
});

normContract({
  name: "BatchNorm1d",
  make: (o) => new BatchNorm1d(4, o),
  shape: [5, 4],
  state: [...affine, ...running],
  wrong: [5, 6],
  lone: { shape: [1, 4], works: false },
  constant: "bias",
  spreads: [0],
  sameInEval: false,
});

normContract({
  name: "BatchNorm2d",
  make: (o) => new BatchNorm2d(4, o),
  shape: [2, 4, 2, 3],
  state: [...affine, ...running],
  wrong: [2, 6, 2, 3],
  lone: { shape: [1, 4, 1, 1], works: false },
  constant: "bias",
  spreads: [0, 2, 3],
  sameInEval: false,
});

normContract({
  name: "BatchNorm3d",
  make: (o) => new BatchNorm3d(4, o),
  shape: [2, 4, 2, 1, 3],
  state: [...affine, ...running],
  wrong: [2, 6, 2, 1, 3],
  lone: { shape: [1, 4, 1, 1, 1], works: false },
  constant: "bias",
  spreads: [0, 2, 3, 4],
  sameInEval: false,
});

normContract({
  name: "GroupNorm",
  make: (o) => new GroupNorm(2, 4, o),
  shape: [2, 4, 3],
  state: affine,
  wrong: [2, 6, 3],
  lone: { shape: [1, 4], works: true },
  constant: "bias",
  spreads: (a, b) => a[0] === b[0] && a[1]! >> 1 === b[1]! >> 1,
  sameInEval: true,
});

normContract({
  name: "LayerNorm",
  make: (o) => new LayerNorm(4, o),
  shape: [2, 3, 4],
  state: affine,
  wrong: [2, 3, 6],
  lone: { shape: [1, 4], works: true },
  constant: "bias",
  spreads: [2],
  sameInEval: true,
});

for (const [name, make, space] of [
  ["InstanceNorm1d", (o?: object) => new InstanceNorm1d(4, o), [3]],
  ["InstanceNorm2d", (o?: object) => new InstanceNorm2d(4, o), [2, 3]],
  ["InstanceNorm3d", (o?: object) => new InstanceNorm3d(4, o), [2, 1, 3]],
] as const) {
  normContract({
    name,
    make,
    shape: [2, 4, ...space],
    state: none,
    wrong: [2, 6, ...space],
    lone: { shape: [1, 4, ...space], works: true },
    constant: "bias",
    spreads: space.map((_, i) => 2 + i),
    sameInEval: true,
  });
}

normContract({
  name: "RMSNorm",
  make: (o) => new RMSNorm(4, o),
  shape: [2, 3, 4],
  state: ["weight"],
  wrong: [2, 3, 6],
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

describe("construction and shapes", () => {
  test("sizes at construction", () => {
    for (const bad of [0, 2.5, -1, Number.NaN, "4"]) {
      expect(() => new BatchNorm2d(bad as number)).toThrow(/BatchNorm2d: numFeatures must be a whole number/);
      expect(() => new GroupNorm(1, bad as number)).toThrow(OptionError);
      expect(() => new LayerNorm(bad as number)).toThrow(ShapeError);
      expect(() => new RMSNorm([4, bad as number])).toThrow(ShapeError);
    }
    expect(() => new GroupNorm(3, 4)).toThrow(/GroupNorm: the number of groups must divide.*3 groups for 4 channels/);
    expect(() => new BatchNorm(4, { axis: 0.5 })).toThrow(/BatchNorm: axis must be a whole number/);
    expect(() => new BatchNorm2d(4, { momentum: 2 })).toThrow(/BatchNorm2d: momentum must be/);
    expect(() => new BatchNorm2d(4, { runningStats: "skip" as "guard" })).toThrow(/"update" or "guard"; got "skip"/);
  });

  test("ranks", () => {
    expect(() => new BatchNorm1d(4).forward(normal(2, 4, 2, 2))).toThrow(/BatchNorm1d takes an input of rank 2 or 3/);
    expect(() => new BatchNorm2d(4).forward(normal(2, 4, 2))).toThrow(/BatchNorm2d takes an input of rank 4 /);
    expect(() => new BatchNorm3d(4).forward(normal(2, 4, 2, 2))).toThrow(ShapeError);
    expect(() => new InstanceNorm1d(4).forward(normal(4))).toThrow(/InstanceNorm1d takes an input of rank 2 or 3/);
    expect(() => new GroupNorm(2, 4).forward(normal(4))).toThrow(ShapeError);
  });

  test("a wrong channel count says where the right one lies", () => {
    expect(() => new BatchNorm2d(4).forward(normal(2, 3, 3, 4))).toThrow(/4 channels on axis 1; got 3.*Axis 3 has 4/);
    new BatchNorm2d(4, { axis: -1 }).forward(normal(2, 3, 3, 4));
  });
});

describe("running statistics", () => {
  const bn = (options?: object) => new BatchNorm1d(2, options);

  test("one value per channel or an empty batch raises in training, works in evaluation, and moves nothing", () => {
    const layer = bn();
    expect(() => layer.forward(normal(1, 2))).toThrow(/more than one value for each channel.*\[1, 2\].*dropLast/);
    expect(() => layer.forward(zeros([0, 2]))).toThrow(/empty batch.*\[0, 2\]/);
    expect(values(layer.runningMean)).toEqual([0, 0]);
    expect(layer.numBatchesTracked!.item()).toBe(0);
    layer.eval();
    expect(layer.forward(normal(1, 2)).shape).toEqual([1, 2]);
    expect(layer.forward(zeros([0, 2])).shape).toEqual([0, 2]);
    const without = bn({ trackRunningStats: false });
    expect(() => without.eval().forward(normal(1, 2))).toThrow(ShapeError);
  });

  test("instance normalization of one value per channel, and of an empty batch", () => {
    const layer = new InstanceNorm1d(2, { trackRunningStats: true });
    expect(() => layer.forward(normal(3, 2, 1))).toThrow(/more than one value for each sample and channel/);
    expect(() => layer.forward(zeros([0, 2, 3]))).toThrow(/running statistics.*empty/);
    expect(layer.eval().forward(normal(3, 2, 1)).shape).toEqual([3, 2, 1]);
    expect(new InstanceNorm1d(2).forward(zeros([0, 2, 3])).shape).toEqual([0, 2, 3]);
  });

  test("NaN enters running statistics unless they are guarded; then it is counted", () => {
    const bad = tensor([
      [1, 2],
      [Number.NaN, 4],
    ]);
    const open = bn();
    open.forward(bad);
    expect(values(open.runningMean)[0]).toBeNaN();
    const guarded = bn({ runningStats: "guard", momentum: null });
    guarded.forward(bad);
    expect(guarded.skippedUpdates).toBe(1);
    expect(guarded.numBatchesTracked!.item()).toBe(0);
    expect(values(guarded.runningMean)).toEqual([0, 0]);
    guarded.forward(
      tensor([
        [1, 2],
        [3, 4],
      ]),
    );
    expect(values(guarded.runningMean)).toEqual([2, 3]);
    expect(values(guarded.runningVar)).toEqual([2, 2]);
    expect([guarded.skippedUpdates, guarded.numBatchesTracked!.item()]).toEqual([1, 1]);
  });

  test("noStatsUpdate holds them still, also when the body throws, and refuses promises", () => {
    const layer = bn();
    const x = normal(4, 2);
    const first = values(layer.forward(x));
    const after = [values(layer.runningMean), layer.numBatchesTracked!.item()];
    expect(values(noStatsUpdate(() => layer.forward(x)))).toEqual(first);
    expect([values(layer.runningMean), layer.numBatchesTracked!.item()]).toEqual(after);
    expect(() =>
      noStatsUpdate(() => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(() => noStatsUpdate(async () => 1)).toThrow(StateError);
    layer.forward(x);
    expect(layer.numBatchesTracked!.item()).toBe(2);
  });

  test("momentum can change during training, and a bad schedule is refused before anything moves", () => {
    const layer = bn({ momentum: 1 });
    layer.forward(
      tensor([
        [1, 2],
        [3, 4],
      ]),
    );
    layer.momentum = 0;
    layer.forward(
      tensor([
        [10, 20],
        [30, 40],
      ]),
    );
    expect(values(layer.runningMean)).toEqual([2, 3]);
    layer.momentum = () => 2;
    expect(() => layer.forward(normal(4, 2))).toThrow(/schedule's value at batch 3/);
    expect(layer.numBatchesTracked!.item()).toBe(2);
    layer.resetRunningStats();
    expect([values(layer.runningMean), values(layer.runningVar)]).toEqual([
      [0, 0],
      [1, 1],
    ]);
    expect(layer.numBatchesTracked!.item()).toBe(0);
  });

  test("an evaluation cannot be taken back once a training step has moved what it used", () => {
    const layer = bn();
    const x = tensor(
      [
        [1, 2],
        [3, 4],
      ],
      { requiresGrad: true },
    );
    const y = layer.eval().forward(x);
    layer.train().forward(normal(4, 2));
    expect(() => y.backward(normal(2, 2))).toThrow(StateError);
  });

  test("a constant batch of large values leaves a running variance of 0, not less", () => {
    const layer = bn({ momentum: 1 });
    layer.forward(tensor(new Float32Array(200).fill(1e6 + 0.5), { shape: [100, 2] }));
    expect(values(layer.runningVar)).toEqual([0, 0]);
    expect(values(layer.runningMean)).toEqual([1e6 + 0.5, 1e6 + 0.5]);
  });
});

describe("functional names", () => {
  const pair = () => ({ runningMean: zeros([3]), runningVar: zeros([3]).add(1) });

  test("agree with the layers, running statistics included", () => {
    const [x, weight, bias] = [normal(4, 3, 5), normal(3), normal(3)];
    const load = (m: Module) => {
      m.loadStateDict({ weight, bias }, { strict: false });
      return m;
    };
    const batch = load(new BatchNorm1d(3)) as BatchNorm1d;
    const mine = pair();
    expect(values(F.batchNorm(x, { ...mine, weight, bias, training: true }))).toEqual(values(batch.forward(x)));
    expect(values(mine.runningMean)).toEqual(values(batch.runningMean));
    expect(values(mine.runningVar)).toEqual(values(batch.runningVar));
    expect(values(F.batchNorm(x, { ...mine, weight, bias }))).toEqual(values(batch.eval().forward(x)));

    const instance = load(new InstanceNorm1d(3, { affine: true, trackRunningStats: true })) as InstanceNorm1d;
    const own = pair();
    expect(values(F.instanceNorm(x, { ...own, weight, bias }))).toEqual(values(instance.forward(x)));
    expect(values(own.runningVar)).toEqual(values(instance.runningVar));
    const still = F.instanceNorm(x, { ...own, weight, bias, useInputStats: false });
    expect(values(still)).toEqual(values(instance.eval().forward(x)));

    expect(values(F.groupNorm(x, 3, { weight, bias }))).toEqual(values(load(new GroupNorm(3, 3)).forward(x)));
    const [w, b] = [normal(3, 5), normal(3, 5)];
    const layer = new LayerNorm([3, 5]);
    layer.loadStateDict({ weight: w, bias: b });
    expect(values(F.layerNorm(x, [3, 5], { weight: w, bias: b }))).toEqual(values(layer.forward(x)));
    expect(values(F.rmsNorm(x, 5))).toEqual(values(new RMSNorm(5, { elementwiseAffine: false }).forward(x)));
    const last = x.permute([0, 2, 1]);
    const transposed = F.batchNorm(last, { axis: -1, training: true }).permute([0, 2, 1]);
    // Other order of summation, so equal to rounding only.
    expect(relativeError(values(transposed), values(F.batchNorm(x, { training: true })))).toBeLessThanOrEqual(2.5e-7);
  });

  test("say what is missing or misspelt", () => {
    const x = normal(4, 3);
    expect(() => F.batchNorm(x)).toThrow(/runningMean and runningVar together.*got neither.*training: true/);
    expect(() => F.batchNorm(x, { runningMean: zeros([3]), training: true })).toThrow(/got runningMean alone/);
    expect(() => F.batchNorm(x, { runningMean: zeros([2]), runningVar: zeros([2]), training: true })).toThrow(
      /running mean must have one value for each channel, shape \[3\]; got \[2\]/,
    );
    expect(() => F.instanceNorm(normal(2, 3, 4), { useInputStats: false })).toThrow(/useInputStats: true/);
    expect(() => F.batchNorm(x, { trainin: true } as object)).toThrow(/Did you mean "training"\?/);
    expect(() => F.groupNorm(x, 2)).toThrow(ShapeError);
    expect(() => F.layerNorm(x, 4)).toThrow(/normalizedShape \[4\]/);
    expect(() => F.rmsNorm(x, 3, { eps: -1 })).toThrow(OptionError);
  });
});
