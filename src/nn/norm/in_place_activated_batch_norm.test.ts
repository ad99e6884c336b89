import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { gradCheck } from "../../autograd/grad_check.js";
import { grad, noGrad, randn, type Tensor, tensor } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import type { NormInputs } from "../../autograd/ops/fused_norm.js";
import { gatherMoments } from "../../autograd/ops/group_moments.js";
import {
  batchNormEvalInPlace,
  batchNormInPlace,
  batchNormInPlaceByGroup,
} from "../../autograd/ops/in_place_batch_norm.js";
import { type Elements, loopback } from "../../base/communicator.js";
import { OptionError, StateError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { heap } from "../../memory/heap.js";
import { scope } from "../../memory/scope.js";
import { batchView } from "../../norm/views.js";
import { LeakyReLU, leakyRelu } from "../activation.js";
import { Conv2d } from "../conv.js";
import type { Module } from "../module.js";
import { Sequential } from "../sequential.js";
import * as F from "./functional.js";
import { BatchNorm, BatchNorm2d, InPlaceActivatedBatchNorm, type InPlaceActivatedBatchNormOptions } from "./index.js";

const random = new Random(23);
const normal = (shape: Shape, dtype: "float32" | "float64" = "float64") => randn(shape, { dtype, random });
const values = (t: Tensor) => [...t.dataSync()];

/** A second rank that is this one again. */
const twin = {
  ...loopback,
  size: 2,
  allGather: <T extends Elements>(data: T): T[] => [data.slice() as T, data.slice() as T],
  allReduce: (data: Float64Array | Float32Array) => data.set(data.map((v) => 2 * v)),
};

/** On a copy of its input, since the contract uses one twice. */
class OnCopy extends InPlaceActivatedBatchNorm {
  override forward(x: Tensor): Tensor {
    return super.forward(x.mul(1));
  }
}

normContract({
  name: "InPlaceActivatedBatchNorm",
  make: (o) => new OnCopy(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  // The bias, through the activation.
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

/** The plain pair with the weight that the layer in place uses. */
function pairOf(layer: InPlaceActivatedBatchNorm, o: InPlaceActivatedBatchNormOptions): (x: Tensor) => Tensor {
  const { activation: _, negativeSlope: __, ...options } = o;
  const plain = new BatchNorm(layer.numFeatures, { ...options, dtype: "float64" });
  plain.loadStateDict(layer.stateDict());
  plain.weight?.assign(values(plain.weight).map((w) => Math.abs(w) + plain.eps));
  plain.train(layer.training);
  return (x) => leakyRelu(plain.forward(x), layer.negativeSlope);
}

describe("batch normalization in place", () => {
  const settings: [string, Shape, InPlaceActivatedBatchNormOptions][] = [
    ["leaky rectifier", [3, 4, 5], {}],
    ["steep slope", [3, 4, 5], { negativeSlope: 1.5 }],
    ["identity", [3, 4, 5], { activation: "identity" }],
    ["no affine", [3, 4, 5], { affine: false }],
    ["channels last", [5, 3, 4], { axis: -1 }],
    ["unbiased variance", [5, 4], { normalizingVariance: "unbiased" }],
    ["two dimensions", [2, 4, 5, 7], { negativeSlope: 0.3 }],
  ];
  for (const [name, shape, o] of settings) {
    for (const training of [true, false]) {
      test(`${name}, ${training ? "training" : "evaluation"}: output and gradients of the plain pair`, () => {
        const layer = new InPlaceActivatedBatchNorm(4, { ...o, dtype: "float64" });
        for (const p of layer.parameters()) p.assign(normal(p.shape));
        layer.runningMean!.assign(normal([4]));
        layer.runningVar!.assign(normal([4]).square().add(0.5));
        const pair = pairOf(layer.train(training), o);
        const [leaf, dy] = [normal(shape), normal(shape)];
        leaf.requiresGrad = true;
        const signs = layer.weight ? values(layer.weight).map((w) => (w < 0 ? -1 : 1)) : [];
        const [w, b] = [layer.weight, layer.bias];
        const x = leaf.mul(2);
        const y = layer.forward(x);
        expect(values(x)).toEqual(values(y));
        const wanted = w && b ? [leaf, w, b] : [leaf];
        const got = grad(y, wanted, { gradOutput: dy });
        // The pair's parameters are leaves of its own: gradients to them come through the functional form.
        const reference = pair(leaf.mul(2));
        expect(relativeError(values(y), values(reference))).toBeLessThanOrEqual(1e-13);
        const [weight, bias] = w && b ? [tensor(values(w), { dtype: "float64" }), b.detach()] : [null, null];
        if (weight && bias) {
          weight.assign(values(weight).map((v) => Math.abs(v) + layer.eps));
          weight.requiresGrad = true;
          bias.requiresGrad = true;
        }
        const n = o.normalizingVariance === "unbiased" ? shape[0]! : Number.POSITIVE_INFINITY;
        // w / sqrt(v b + eps) for the unbiased variance v b, as a weight and an eps for v.
        const bessel = Number.isFinite(n) && training ? n / (n - 1) : 1;
        const running = { runningMean: layer.runningMean!.detach(), runningVar: layer.runningVar!.detach() };
        const z = F.batchNorm(leaf.mul(2), {
          weight: weight?.div(Math.sqrt(bessel)) ?? null,
          bias,
          training,
          eps: layer.eps / bessel,
          axis: o.axis ?? 1,
          ...(training ? {} : running),
        });
        const parts = weight && bias ? [leaf, weight, bias] : [leaf];
        const want = grad(leakyRelu(z, layer.negativeSlope), parts, { gradOutput: dy });
        for (const [i, g] of got.entries()) {
          const expected = i === 1 ? values(want[1]!).map((v, c) => v * signs[c]!) : values(want[i]!);
          expect(relativeError(values(g), expected), `gradient ${i}`).toBeLessThanOrEqual(1e-10);
        }
      });
    }
  }

  test("weights of either sign, without the layer: gradients against central differences", () => {
    const statistics = { mean: normal([3]), variance: normal([3]).square().add(0.5) };
    for (const negativeSlope of [1, 0.2]) {
      const options = { axis: 1, eps: 1e-3, negativeSlope };
      // Of two ranks with the same batch, whose gradients are those of one.
      const ofTwins = (i: NormInputs, affine: number | null) => {
        const { view } = batchView(i.x.shape, 1);
        const moments = gatherMoments(i.x, { view, samples: 5, communicator: twin, layer: "this" });
        const gather = { add: twin.allReduce, affine };
        return batchNormInPlaceByGroup(i, moments, { ...options, view, gather });
      };
      for (const f of [
        (i: NormInputs) => ofTwins(i, null),
        (i: NormInputs) => ofTwins(i, 0.5),
        (i: NormInputs) => batchNormInPlace(i, options).out,
        (i: NormInputs) => batchNormEvalInPlace(i, statistics, options),
      ]) {
        const inputs = [normal([5, 3, 2]), tensor([-1.3, 0.7, 2], { dtype: "float64" }), normal([3])];
        const { errors } = gradCheck(
          (x, weight, bias) => f({ x: x!.mul(1), weight: weight!, bias: bias! }),
          inputs,
          random,
        );
        for (const e of errors) expect(e).toBeLessThanOrEqual(1e-7);
        const bare = gradCheck((x) => f({ x: x!.mul(1), weight: null, bias: null }), inputs.slice(0, 1), random);
        for (const e of bare.errors) expect(e).toBeLessThanOrEqual(1e-7);
      }
    }
  });

  test("float32 against float64", () => {
    const [x, dy] = [normal([8, 6, 40], "float32"), normal([8, 6, 40], "float32")];
    const run = (dtype: "float32" | "float64") => {
      const layer = new InPlaceActivatedBatchNorm(6, { dtype });
      layer.weight!.assign([1, -0.5, 2, 0.8, 1.2, -1]);
      layer.bias!.assign([0.1, -0.3, 0.5, 0, 1, -1]);
      const leaf = x.cast(dtype).detach();
      leaf.requiresGrad = true;
      const y = layer.forward(leaf.mul(1));
      return [y, ...grad(y, [leaf, layer.weight!, layer.bias!], { gradOutput: dy.cast(dtype) })].map(values);
    };
    const [single, double] = [run("float32"), run("float64")];
    // xhat comes back from y with y's rounding, once more divided by the weight.
    for (const [i, v] of single.entries()) expect(relativeError(v, double[i]!), `${i}`).toBeLessThanOrEqual(2e-6);
  });

  test("a weight that starts at 0 moves", () => {
    const layer = new InPlaceActivatedBatchNorm(4, { dtype: "float64" });
    layer.weight!.assign([0, 0, 1, 1]);
    layer.forward(normal([5, 4]).mul(1));
    layer.backward(normal([5, 4]));
    expect(values(layer.weight!.grad!).every((g) => g !== 0)).toBe(true);
  });

  test("running statistics are those of BatchNorm", () => {
    const [mine, plain] = [new InPlaceActivatedBatchNorm(4), new BatchNorm(4)];
    const x = normal([5, 4, 3], "float32");
    plain.forward(x);
    mine.forward(x.mul(1));
    for (const [name, t] of Object.entries(plain.stateDict())) {
      expect(values(mine.stateDict()[name]!)).toEqual(values(t));
    }
  });
});

describe("what writing in place must not break", () => {
  const options = { axis: 1, eps: 1e-5 };

  test("another op that saved x refuses to go back", () => {
    const layer = new InPlaceActivatedBatchNorm(3);
    const leaf = normal([4, 3], "float32");
    leaf.requiresGrad = true;
    const x = leaf.mul(2);
    const other = x.square();
    const loss = layer.forward(x).sum().add(other.sum());
    expect(() => loss.backward()).toThrow(StateError);
    expect(() => loss.backward()).toThrow(/square saved .* must not change|can be walked back once/);
  });

  test("a leaf with requiresGrad is not written over, unless nothing is recorded", () => {
    const leaf = normal([4, 3], "float32");
    leaf.requiresGrad = true;
    const layer = new InPlaceActivatedBatchNorm(3);
    const before = values(leaf);
    expect(() => layer.forward(leaf)).toThrow(/cannot write over a tensor that someone set requiresGrad on/);
    expect(values(leaf)).toEqual(before);
    noGrad(() => layer.forward(leaf));
    expect(values(leaf)).not.toEqual(before);
  });

  test("evaluation in place: a weight of 0 has a gradient to x, and none of its own", () => {
    const statistics = { mean: normal([2]), variance: normal([2]).square().add(0.5) };
    const [leaf, dy] = [normal([5, 2]), normal([5, 2])];
    const [weight, bias] = [tensor([0, -2], { dtype: "float64" }), normal([2])];
    for (const t of [leaf, bias]) t.requiresGrad = true;
    const inPlace = () => batchNormEvalInPlace({ x: leaf.mul(1), weight, bias }, statistics, options);
    const want = grad(batchNormEval({ x: leaf, weight, bias }, statistics, options), [leaf, bias], { gradOutput: dy });
    for (const [i, g] of grad(inPlace(), [leaf, bias], { gradOutput: dy }).entries()) {
      expect(relativeError(values(g), values(want[i]!))).toBeLessThanOrEqual(1e-13);
    }
    weight.requiresGrad = true;
    expect(() => grad(inPlace(), weight, { gradOutput: dy })).toThrow(StateError);
    expect(() => grad(inPlace(), weight, { gradOutput: dy })).toThrow(
      /0 as the weight of channel 0.*requiresGrad = false/,
    );
  });

  test("options out of range", () => {
    for (const negativeSlope of [0, -0.1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new InPlaceActivatedBatchNorm(3, { negativeSlope })).toThrow(
        /negativeSlope must be a finite number/,
      );
      expect(() =>
        batchNormInPlace({ x: normal([4, 3]), weight: null, bias: null }, { ...options, negativeSlope }),
      ).toThrow(OptionError);
    }
    expect(() => new InPlaceActivatedBatchNorm(3, { activation: "relu" } as object)).toThrow(
      /activation must be "leakyRelu" or "identity"/,
    );
    expect(() => new InPlaceActivatedBatchNorm(3, { eps: 0 })).toThrow(/eps must be above 0/);
  });
});

describe("memory of conv, norm, activation over several layers", () => {
  const depth = 5;
  const channels = 8;
  const x = normal([4, channels, 24, 24], "float32");
  const bytes = 4 * x.size;

  /** Bytes held between forward and backward, for each layer and in tensors of x's size; and the peak of the step. */
  function measure(block: () => Module[]) {
    const model = new Sequential(
      ...Array.from({ length: depth }, () => [
        new Conv2d(channels, channels, 3, { padding: 1, bias: false }),
        ...block(),
      ]).flat(),
    );
    const start = heap.stats.liveBytes;
    heap.resetPeak();
    const held = scope(() => {
      const y = model.forward(x);
      const live = heap.stats.liveBytes - start;
      y.sum().backward();
      return live;
    });
    const result = { held: held / bytes / depth, peak: (heap.stats.peakBytes - start) / bytes };
    model.dispose();
    return result;
  }

  test("three tensors a layer apart, two with the activation in the kernel, one in place", () => {
    const apart = measure(() => [new BatchNorm2d(channels), new LeakyReLU()]);
    const fused = measure(() => [new BatchNorm2d(channels, { activation: "leakyRelu" })]);
    const inPlace = measure(() => [new InPlaceActivatedBatchNorm(channels)]);
    const overRanks = measure(() => [new InPlaceActivatedBatchNorm(channels, { communicator: twin })]);
    // Statistics and other small things take a little more.
    for (const [m, tensors] of [
      [apart, 3],
      [fused, 2],
      [inPlace, 1],
      [overRanks, 1],
    ] as const) {
      expect(m.held).toBeGreaterThanOrEqual(tensors);
      expect(m.held).toBeLessThan(tensors + 0.05);
    }
    // Going back, the activation of its own writes over its dy: there the peak is a part of one tensor lower.
    expect(apart.peak - inPlace.peak).toBeGreaterThan(2 * (depth - 1) - 0.5);
    expect(overRanks.peak - inPlace.peak).toBeLessThan(0.05);
  });
});
