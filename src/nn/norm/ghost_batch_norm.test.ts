import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { concat, type Tensor, zeros } from "../../autograd/index.js";
import { ghostBatchNorm } from "../../autograd/ops/ghost_batch_norm.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { biasedVariance, mergeMoments, noMoments } from "../../norm/moments.js";
import { BatchNorm, GhostBatchNorm, type GhostBatchNormOptions } from "./index.js";

const values = (t: Tensor | null) => [...t!.dataSync()];

normContract({
  name: "GhostBatchNorm",
  make: (o) => new GhostBatchNorm(4, { virtualBatchSize: 2, ...o }),
  shape: [5, 4, 3],
  state: ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
  wrong: [5, 6, 3],
  lone: { shape: [1, 4, 1], works: false },
  constant: "bias",
  spreads: (a, b) => a[1] === b[1] && a[0]! >> 1 === b[0]! >> 1,
  sameInEval: false,
});

checkOps(
  "ghost batch normalization",
  [
    { shape: [6, 2, 3], axis: 1, size: 2 },
    { shape: [7, 3, 2], axis: 1, size: 3 },
    { shape: [5, 2, 2, 3], axis: -1, size: 2 },
    { shape: [7, 3], axis: 1, size: 3 },
  ].map(({ shape, axis, size }) => {
    const channels = shape.at(axis)!;
    return {
      name: `[${shape}], axis ${axis}, ghosts of ${size}`,
      inputs: [normal(shape, 1), normal([channels]), normal([channels])],
      apply: (x?: Tensor, weight?: Tensor, bias?: Tensor) =>
        ghostBatchNorm({ x: x!, weight: weight!, bias: bias! }, { axis, eps: 1e-3, size }).out,
    };
  }),
);

/** What GhostBatchNorm stands for: a BatchNorm that sees one ghost after another. */
function oneByOne(x: Tensor, sizes: readonly number[], options: GhostBatchNormOptions) {
  const { virtualBatchSize: _, numSplits: __, ...rest } = options;
  const bn = new BatchNorm(3, rest);
  let start = 0;
  const parts = sizes.map((size) => {
    start += size;
    return bn.forward(x.narrow(0, start - size, size));
  });
  return { bn, y: concat(parts) };
}

describe("GhostBatchNorm", () => {
  for (const [name, samples, sizes, options] of [
    ["even", 6, [2, 2, 2], { virtualBatchSize: 2 }],
    ["a smaller last one", 8, [3, 3, 2], { virtualBatchSize: 3 }],
    ["one ghost", 5, [5], {}],
    ["splits", 8, [3, 3, 2], { numSplits: 3 }],
    ["cumulative average", 8, [3, 3, 2], { numSplits: 3, momentum: null }],
    ["schedule by ghosts", 6, [2, 2, 2], { virtualBatchSize: 2, momentum: (n: number) => 1 / (n + 1) }],
    ["unbiased variance", 8, [3, 3, 2], { virtualBatchSize: 3, normalizingVariance: "unbiased" }],
    ["biased running variance", 8, [3, 3, 2], { virtualBatchSize: 3, runningVariance: "biased" }],
  ] as [string, number, number[], GhostBatchNormOptions][]) {
    test(`is BatchNorm on one ghost after another: ${name}`, () => {
      const x = normal([samples, 3, 5], 3);
      const want = oneByOne(x, sizes, { ...options, dtype: "float64" });
      const ghost = new GhostBatchNorm(3, { ...options, dtype: "float64" });
      expect(relativeError(ghost.forward(x).dataSync(), want.y.dataSync())).toBeLessThanOrEqual(1e-14);
      for (const what of ["runningMean", "runningVar"] as const) {
        expect(relativeError(values(ghost[what]), values(want.bn[what])), what).toBeLessThanOrEqual(1e-14);
      }
      expect(ghost.numBatchesTracked!.item()).toBe(sizes.length);
    });
  }

  test("a last ghost of one value joins the one before", () => {
    const x = normal([7, 3]);
    const { y } = oneByOne(x, [3, 4], { dtype: "float64" });
    const ghost = new GhostBatchNorm(3, { virtualBatchSize: 3, dtype: "float64" });
    expect(values(ghost.forward(x))).toEqual(values(y));
    expect(ghost.numBatchesTracked!.item()).toBe(2);
  });

  test("one ghost is BatchNorm, in float32 to the bit", () => {
    const x = normal([6, 3, 40], 2).cast("float32");
    const dy = normal([6, 3, 40]).cast("float32");
    const [ghost, bn] = [new GhostBatchNorm(3), new BatchNorm(3)];
    expect(values(ghost.forward(x))).toEqual(values(bn.forward(x)));
    expect(values(ghost.backward(dy))).toEqual(values(bn.backward(dy)));
    expect(values(ghost.runningVar)).toEqual(values(bn.runningVar));
  });

  test("the moments of the ghosts, merged, are those of the whole batch", () => {
    const x = normal([10, 3, 4], 50);
    const { extra } = ghostBatchNorm({ x, weight: null, bias: null }, { axis: 1, eps: 0, size: 4 });
    const whole = ghostBatchNorm({ x, weight: null, bias: null }, { axis: 1, eps: 0, size: 10 }).extra[0]!.statistics;
    for (let c = 0; c < 3; c++) {
      let all = noMoments;
      for (const { statistics, ghosts, values: count } of extra) {
        for (let g = 0; g < ghosts; g++) {
          const mean = statistics.mean!.dataSync()[g * 3 + c]!;
          all = mergeMoments(all, { count, mean, m2: statistics.variance.dataSync()[g * 3 + c]! * count });
        }
      }
      expect(all.count).toBe(40);
      expect(all.mean).toBeCloseTo(whole.mean!.dataSync()[c]!, 12);
      expect(biasedVariance(all)).toBeCloseTo(whole.variance.dataSync()[c]!, 12);
    }
  });

  test("accuracy in float32 with the mean at 1e4 standard deviations", () => {
    const x = normal([9, 3, 70], 1e4).cast("float32");
    const dy = normal([9, 3, 70]).cast("float32");
    const [small, large] = (["float32", "float64"] as const).map((dtype) => {
      const layer = new GhostBatchNorm(3, { virtualBatchSize: 2, dtype });
      const results = [layer.forward(x.cast(dtype)), layer.backward(dy.cast(dtype))];
      return [...results, layer.weight!.grad!, layer.bias!.grad!].map((t) => t.dataSync());
    });
    for (const i of [0, 1, 2, 3]) expect(relativeError(small![i]!, large![i]!)).toBeLessThanOrEqual(2.5e-7);
  });

  test("a ghost with NaN is left out by the guard, the others count", () => {
    const x = normal([6, 3, 5]).cast("float32");
    const data = x.dataSync();
    data[2 * 15] = Number.NaN;
    const ghost = new GhostBatchNorm(3, { virtualBatchSize: 2, runningStats: "guard" });
    ghost.forward(x.assign(data));
    expect([ghost.skippedUpdates, ghost.numBatchesTracked!.item()]).toEqual([1, 2]);
    for (const v of values(ghost.runningMean)) expect(v).toSatisfy(Number.isFinite);
  });

  test("what does not go", () => {
    expect(() => new GhostBatchNorm(3, { virtualBatchSize: 4, numSplits: 2 })).toThrow(/virtualBatchSize or numSplits/);
    for (const bad of [0, 1.5, -2, Number.NaN]) {
      expect(() => new GhostBatchNorm(3, { virtualBatchSize: bad })).toThrow(OptionError);
      expect(() => new GhostBatchNorm(3, { numSplits: bad })).toThrow(OptionError);
    }
    expect(() => new GhostBatchNorm(3, { virtualBatch: 2 } as object)).toThrow(/Did you mean "virtualBatchSize"/);
    expect(() => new GhostBatchNorm(3, { virtualBatchSize: 1 }).forward(zeros([4, 3]))).toThrow(/A ghost batch takes/);
    expect(() => new GhostBatchNorm(3).forward(zeros([0, 3, 2]))).toThrow(/empty batch/);
    expect(() => new GhostBatchNorm(3, { axis: 0 }).forward(zeros([3, 4]))).toThrow(ShapeError);
    expect(new GhostBatchNorm(3).eval().forward(zeros([0, 3, 2])).shape).toEqual([0, 3, 2]);
  });
});
