import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import { gradCheck } from "../../autograd/grad_check.js";
import { randn, type Tensor, tensor } from "../../autograd/index.js";
import { batchRenorm } from "../../autograd/ops/batch_renorm.js";
import { OptionError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import { BatchNorm, BatchRenorm, renormSchedule } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const state = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

normContract({
  name: "BatchRenorm",
  uncaptured: "limits that follow a count",
  make: (o) => new BatchRenorm(4, { rMax: 1.2, dMax: 0.1, ...o }),
  shape: [3, 4, 5],
  state,
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  inexact: "r and d count as constants in backward, as in the paper",
  sameInEval: false,
});

/** Running statistics that leave channel 0 unclipped and clip r and d of the others, one on each side. */
const mean = [2.02, -40, 40, 2];
const variance = [1.05, 0.01, 90, 1];
const made = (dtype: "float32" | "float64", options = {}) => {
  const layer = new BatchRenorm(4, { rMax: 1.5, dMax: 0.5, eps: 1e-3, dtype, ...options });
  layer.runningMean!.assign(mean);
  layer.runningVar!.assign(variance);
  layer.weight!.assign([1.5, -0.5, 2, 0.75]);
  layer.bias!.assign([0.25, 1, -2, 0]);
  return layer;
};

describe("BatchRenorm", () => {
  for (const normalizingVariance of ["biased", "unbiased"] as const) {
    test(`the formula with r and d as constants, and its gradients: ${normalizingVariance}`, () => {
      // Numbers of its own: whether a channel is clipped must not depend on what was drawn before.
      const random = new Random(5);
      const dy = randn([4, 4, 3], { dtype: "float64", random });
      const x = randn([4, 4, 3], { dtype: "float64", random }).add(2);
      const layer = made("float64", { normalizingVariance });
      const y = values(layer.forward(x));
      const dx = values(layer.backward(dy));
      const at = (t: Tensor, c: number) =>
        [0, 1, 2, 3].flatMap((n) => [0, 1, 2].map((i) => values(t)[(n * 4 + c) * 3 + i]!));
      const from = (v: number[], c: number) =>
        [0, 1, 2, 3].flatMap((n) => [0, 1, 2].map((i) => v[(n * 4 + c) * 3 + i]!));
      const m = 12;
      for (let c = 0; c < 4; c++) {
        const [xs, gs] = [at(x, c), at(dy, c)];
        const mu = xs.reduce((a, b) => a + b) / m;
        const v = xs.reduce((a, b) => a + (b - mu) ** 2, 0) / (normalizingVariance === "biased" ? m : m - 1);
        const sigmaB = Math.sqrt(v + 1e-3);
        const sigma = Math.sqrt(variance[c]! + 1e-3);
        const r = Math.max(1 / 1.5, Math.min(1.5, sigmaB / sigma));
        const d = Math.max(-0.5, Math.min(0.5, (mu - mean[c]!) / sigma));
        if (c === 0) expect(Math.abs(d)).toBeLessThan(0.5);
        const [w, b] = [[1.5, -0.5, 2, 0.75][c]!, [0.25, 1, -2, 0][c]!];
        const xhat = xs.map((e) => (e - mu) / sigmaB);
        expect(
          relativeError(
            from(y, c),
            xhat.map((e) => (e * r + d) * w + b),
          ),
        ).toBeLessThanOrEqual(1e-13);
        // d y / d x with r and d constant, by the chain rule through mu and v.
        const n = normalizingVariance === "biased" ? m : m - 1;
        const sumG = gs.reduce((s, g) => s + g, 0);
        const sumGX = gs.reduce((s, g, i) => s + g * xhat[i]!, 0);
        const want = gs.map((g, i) => ((w * r) / sigmaB) * (g - sumG / m - (xhat[i]! * sumGX) / n));
        expect(relativeError(from(dx, c), want)).toBeLessThanOrEqual(1e-12);
        expect(values(layer.weight!.grad)[c]).toBeCloseTo(r * sumGX + d * sumG, 11);
        expect(values(layer.bias!.grad)[c]).toBeCloseTo(sumG, 12);
      }
    });
  }

  test("gradients by differences where r and d are clipped, hence constant", () => {
    const running = { mean: tensor([9, -9]), variance: tensor([90, 0.01]) };
    const apply = (x?: Tensor, weight?: Tensor, bias?: Tensor) =>
      batchRenorm({ x: x!, weight: weight!, bias: bias! }, { axis: 1, eps: 1e-3, running, rMax: 2, dMax: 0.5 }).out;
    const inputs = [normal([3, 2, 3]), normal([2]), normal([2])];
    for (const e of gradCheck(apply, inputs, new Random(4)).errors) expect(e).toBeLessThanOrEqual(1e-7);
  });

  test("with rMax 1 and dMax 0 it is BatchNorm, at first by default", () => {
    const [x, dy] = [normal([5, 3, 4], 2), normal([5, 3, 4])];
    for (const options of [{}, { rMax: 1, dMax: 0, momentum: 0.3 }]) {
      const [renorm, bn] = [
        new BatchRenorm(3, { dtype: "float64", ...options }),
        new BatchNorm(3, { dtype: "float64", momentum: 0.01, ...("momentum" in options ? { momentum: 0.3 } : {}) }),
      ];
      for (let step = 0; step < 3; step++) {
        expect(relativeError(values(renorm.forward(x)), values(bn.forward(x)))).toBeLessThanOrEqual(1e-14);
        expect(relativeError(values(renorm.backward(dy)), values(bn.backward(dy)))).toBeLessThanOrEqual(1e-13);
      }
      for (const k of state.slice(2)) expect(values(renorm.stateDict()[k])).toEqual(values(bn.stateDict()[k]));
    }
  });

  test("unclipped, training gives what evaluation gives", () => {
    const layer = made("float64", { rMax: 1e6, dMax: 1e6 });
    const x = normal([4, 4, 3], 2);
    const evaluated = values(layer.eval().forward(x));
    expect(relativeError(values(layer.train().forward(x)), evaluated)).toBeLessThanOrEqual(1e-14);
  });

  test("schedules count the batches seen", () => {
    expect([0, 5000, 22_500, 40_000, 1e6].map(renormSchedule.rMax)).toEqual([1, 1, 2, 3, 3]);
    expect([0, 5000, 15_000, 25_000, 1e6].map(renormSchedule.dMax)).toEqual([0, 0, 2.5, 5, 5]);
    const seen: number[] = [];
    const layer = new BatchRenorm(2, { rMax: (n) => 1 + seen.push(n), dMax: () => 0 });
    for (let i = 0; i < 3; i++) layer.forward(normal([3, 2]).cast("float32"));
    expect(seen).toEqual([0, 1, 2]);
    layer.dMax = () => -1;
    expect(() => layer.forward(normal([3, 2]).cast("float32"))).toThrow(/dMax after 3 batches must be a number of at/);
  });

  test("features", () => {
    const x = normal([4, 2, 3]);
    const layer = new BatchRenorm([2, 3], { dtype: "float64", rMax: 2, dMax: 1 });
    const flat = new BatchRenorm(6, { dtype: "float64", rMax: 2, dMax: 1 });
    expect(values(layer.forward(x))).toEqual(values(flat.forward(x.reshape([4, 6]))));
  });

  test("accuracy in float32 with the mean at 1e4 standard deviations", () => {
    const x = normal([9, 4, 70], 1e4).cast("float32");
    const dy = normal([9, 4, 70]).cast("float32");
    const [small, large] = (["float32", "float64"] as const).map((dtype) => {
      const layer = made(dtype);
      layer.runningMean!.assign([10_000, 9999.5, 1e4, 1e4]);
      const results = [layer.forward(x.cast(dtype)), layer.backward(dy.cast(dtype))];
      return [...results, layer.weight!.grad!, layer.bias!.grad!].map((t) => t.dataSync());
    });
    for (const i of [0, 1, 2, 3]) expect(relativeError(small![i]!, large![i]!)).toBeLessThanOrEqual(2.5e-7);
  });

  test("what does not go", () => {
    expect(() => new BatchRenorm(2, { trackRunningStats: false })).toThrow(/towards its running statistics/);
    for (const rMax of [0.5, Number.NaN, "2" as never]) expect(() => new BatchRenorm(2, { rMax })).toThrow(OptionError);
    for (const dMax of [-1, Number.NaN]) expect(() => new BatchRenorm(2, { dMax })).toThrow(OptionError);
  });
});
