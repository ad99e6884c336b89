import { describe, expect, test } from "vitest";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import { gradCheck } from "../../autograd/grad_check.js";
import { grad, noGrad, randn, type Tensor, tensor } from "../../autograd/index.js";
import type { DType } from "../../base/dtype.js";
import { OptionError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { checkpoint } from "../checkpoint.js";
import { ActNorm, noStatsUpdate, PowerNorm } from "./index.js";

const random = new Random(41);
const draw = (shape: Shape, dtype: DType = "float32") => randn(shape, { dtype, random });
const values = (t: Tensor) => [...t.dataSync()];
const numberOf = (t: Tensor | null) => t!.item();

normContract({
  name: "PowerNorm",
  uncaptured: "running quantities computed in JavaScript",
  make: (o) => new PowerNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "running_phi", "ema_gz", "iters"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

normContract({
  name: "ActNorm",
  uncaptured: "it looks whether it is initialised",
  make: (o) => new ActNorm(4, o),
  shape: [3, 4, 5],
  state: ["weight", "bias", "initialized"],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

describe("gradients of layers without an op of their own", () => {
  const o = { dtype: "float64" as const, eps: 1e-3 };
  const power = new PowerNorm(4, o);
  power.weight!.assign([1, -2, 0.5, 3]);
  const still = new PowerNorm(4, { ...o, groups: 2, axis: -1 }).eval();
  const act = new ActNorm(4, { dtype: "float64" }).eval();
  act.weight.assign([0.5, -1, 0.25, 2]);
  act.bias.assign([1, 2, -3, 0.5]);

  test.each([
    ["PowerNorm in its warm-up, where it is exact", (x: Tensor) => power.forward(x), [3, 4, 5]],
    ["PowerNorm in evaluation, with groups", (x: Tensor) => still.forward(x), [3, 5, 4]],
    ["ActNorm", (x: Tensor) => act.forward(x), [3, 4, 5]],
    ["the inverse of ActNorm", (x: Tensor) => act.inverse(x), [3, 4, 5]],
  ] as const)("%s", (_name, f, shape) => {
    const { errors } = gradCheck(f as (...xs: Tensor[]) => Tensor, [normal(shape, 0.5)], random);
    // Groups of two values bend: the step of 1e-5 leaves 2e-8 there.
    expect(errors[0]).toBeLessThan(1e-7);
  });

  test.each(["exp", "linear"] as const)("ActNorm by its parameters, scale %s, with the log determinant", (scale) => {
    const layer = new ActNorm(3, { scale, dtype: "float64" });
    const x = draw([4, 3, 5], "float64");
    layer.forward(x);
    const [dy, dLog] = [draw([4, 3, 5], "float64"), draw([4], "float64")];
    const value = () => {
      const { y, logDet } = layer.forwardWithLogDet(x);
      return y.mul(dy).sum().add(logDet.mul(dLog).sum());
    };
    const slopes = grad(value(), [layer.weight, layer.bias]);
    for (const [k, p] of [layer.weight, layer.bias].entries()) {
      const at = values(p);
      for (const c of at.keys()) {
        const moved = (h: number) => {
          p.assign(at.map((v, i) => (i === c ? v + h : v)));
          return value().item();
        };
        const numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        p.assign(at);
        expect(Math.abs(values(slopes[k]!)[c]! - numeric) / Math.max(1, Math.abs(numeric))).toBeLessThan(1e-8);
      }
    }
  });
});

describe("PowerNorm", () => {
  test("its warm-up averages, then moves with alphaFwd", () => {
    const layer = new PowerNorm(1, { warmupIters: 2, alphaFwd: 0.75, dtype: "float64" });
    const step = (v: number) => layer.forward(tensor([[v], [-v]], { dtype: "float64" }));
    step(1);
    step(3);
    expect(values(layer.runningPhi!)[0]).toBeCloseTo(5, 14);
    const y = step(2);
    // The old value divides, the batch's own moves it after.
    expect(values(y)[0]).toBeCloseTo(2 / Math.sqrt(5 + 1e-5), 14);
    expect(values(layer.runningPhi!)[0]).toBeCloseTo(0.75 * 5 + 0.25 * 4, 14);
    expect(numberOf(layer.iters)).toBe(3);
    noStatsUpdate(() => step(5));
    expect(numberOf(layer.iters)).toBe(3);
  });

  test("a state that a later forward moved does not change an earlier backward", () => {
    const layer = new PowerNorm(2, { warmupIters: 0, dtype: "float64" });
    layer.runningPhi!.assign([2, 3]);
    layer.emaGz!.assign([0.5, -1]);
    const run = (between: boolean) => {
      const state = layer.stateDict();
      const kept = Object.fromEntries(
        Object.entries(state).map(([k, t]) => [k, { shape: t.shape, data: t.dataSync() }]),
      );
      const x = tensor(
        [
          [1, 2],
          [3, 4],
          [-1, 5],
        ],
        { dtype: "float64", requiresGrad: true },
      );
      const y = layer.forward(x);
      if (between) noGrad(() => layer.forward(draw([3, 2], "float64")));
      y.backward(
        tensor(
          [
            [1, -1],
            [2, 0.5],
            [0, 1],
          ],
          { dtype: "float64" },
        ),
      );
      layer.loadStateDict(kept);
      return values(x.grad!);
    };
    expect(run(true)).toEqual(run(false));
  });

  test("under a checkpoint its state moves once, forward and backward", () => {
    const make = () => new PowerNorm(2, { warmupIters: 1, dtype: "float64" });
    const [plain, recomputed] = [make(), make()];
    for (let i = 0; i < 3; i++) {
      const [x, dy] = [draw([4, 2], "float64"), draw([4, 2], "float64")];
      const results = [plain, recomputed].map((layer) => {
        const leaf = x.detach();
        leaf.requiresGrad = true;
        const y = layer === plain ? layer.forward(leaf) : checkpoint(layer, leaf);
        y.backward(dy);
        return [leaf.grad!, ...Object.values(layer.stateDict())].map(values);
      });
      expect(results[1]).toEqual(results[0]);
    }
  });

  test("groups have root mean square 1 at each position first", () => {
    const layer = new PowerNorm(4, { groups: 2, eps: 0, dtype: "float64" }).eval();
    const y = layer.forward(tensor([[3, 4, 0, 2]], { dtype: "float64" }));
    const want = [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5), 0, Math.SQRT2];
    for (const [i, v] of values(y).entries()) expect(v).toBeCloseTo(want[i]!, 13);
    expect(() => new PowerNorm(4, { groups: 3 })).toThrow(/3 groups for 4 channels/);
  });

  test("its options, and the guard", () => {
    for (const bad of [{ alphaFwd: 2 }, { alphaBkw: -1 }, { warmupIters: 0.5 }, { runningStats: "skip" }]) {
      expect(() => new PowerNorm(4, bad as object)).toThrow(OptionError);
    }
    expect(Object.keys(new PowerNorm(4, { affine: false }).stateDict())).toEqual(["running_phi", "ema_gz", "iters"]);
    const layer = new PowerNorm(1, { runningStats: "guard" });
    layer.forward(tensor([[1], [Number.NaN]]));
    layer.backward(tensor([[1], [1]]));
    expect([layer.skippedUpdates, numberOf(layer.iters), ...values(layer.emaGz!)]).toEqual([1, 0, 0]);
  });
});

describe("ActNorm", () => {
  test.each(["exp", "linear"] as const)("the first batch sets mean 0 and variance 1, scale %s", (scale) => {
    const layer = new ActNorm(4, { scale, dtype: "float64" });
    const x = draw([3, 4, 5], "float64").mul(3).add(7);
    const y = layer.forward(x);
    for (const m of values(y.mean([0, 2]))) expect(m).toBeCloseTo(0, 13);
    // eps takes about 1e-6 of the deviation.
    for (const v of values(y.variance([0, 2], { correction: 0 }))) expect(v).toBeCloseTo(1, 5);
    expect(numberOf(layer.initialized)).toBe(1);
    const before = values(layer.weight);
    layer.forward(draw([3, 4, 5], "float64"));
    expect(values(layer.weight)).toEqual(before);
    for (const [i, v] of values(layer.inverse(y)).entries()) expect(v).toBeCloseTo(values(x)[i]!, 12);
  });

  test("logDet is that of the map from x to y", () => {
    for (const scale of ["exp", "linear"] as const) {
      const layer = new ActNorm(2, { scale, dtype: "float64" });
      layer.forward(draw([4, 2, 3], "float64"));
      const { y, logDet } = layer.forwardWithLogDet(draw([5, 2, 3], "float64"));
      expect([y.shape, logDet.shape]).toEqual([[5, 2, 3], [5]]);
      // Slopes of y by x for each channel, at each of three positions.
      const at = (v: number) => values(layer.forward(tensor([[[v], [v]]], { dtype: "float64" })));
      const slopes = at(1).map((v, c) => v - at(0)[c]!);
      const want = 3 * slopes.reduce((sum, s) => sum + Math.log(Math.abs(s)), 0);
      for (const v of values(logDet)) expect(v).toBeCloseTo(want, 12);
    }
  });

  test("the flag survives saving, and evaluation does not set it", () => {
    const first = new ActNorm(4);
    const x = draw([3, 4, 5]);
    expect(values(first.eval().forward(x))).toEqual(values(x));
    expect(numberOf(first.initialized)).toBe(0);
    first.train().forward(x);
    const second = new ActNorm(4);
    second.loadStateDict(first.stateDict());
    const other = draw([3, 4, 5]);
    expect(values(second.forward(other))).toEqual(values(first.forward(other)));
  });
});
