import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { grad, randn, type Tensor } from "../../autograd/index.js";
import { OptionError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { heap } from "../../memory/heap.js";
import { scope } from "../../memory/scope.js";
import * as A from "../activation.js";
import type { Module } from "../module.js";
import * as F from "./functional.js";
import { BatchNorm, BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm, RMSNorm } from "./index.js";
import type { NormActivationName } from "./norm_activation.js";

const random = new Random(5);
const normal = (shape: Shape) => randn(shape, { dtype: "float64", random });
const separate: Record<NormActivationName, (z: Tensor) => Tensor> = {
  relu: A.relu,
  leakyRelu: (z) => A.leakyRelu(z),
  gelu: (z) => A.gelu(z),
  geluTanh: (z) => A.gelu(z, { approximate: "tanh" }),
  silu: A.silu,
  sigmoid: A.sigmoid,
  tanh: A.tanh,
};
const names = Object.keys(separate) as NormActivationName[];

const layers: readonly [string, Shape, (o: object) => Module][] = [
  ["BatchNorm", [5, 4], (o) => new BatchNorm(4, o)],
  ["BatchNorm for each feature", [5, 2, 3], (o) => new BatchNorm([2, 3], o)],
  ["BatchNorm2d", [3, 4, 2, 3], (o) => new BatchNorm2d(4, o)],
  ["GroupNorm", [3, 4, 2, 3], (o) => new GroupNorm(2, 4, o)],
  ["GroupNorm for each position", [3, 4, 2], (o) => new GroupNorm(2, 4, { ...o, statistics: "position" })],
  ["InstanceNorm2d", [3, 4, 2, 3], (o) => new InstanceNorm2d(4, { ...o, affine: true, trackRunningStats: true })],
  ["LayerNorm", [3, 5], (o) => new LayerNorm(5, o)],
  ["RMSNorm", [3, 5], (o) => new RMSNorm(5, o)],
];

/** Output and gradients to x and the parameters. */
function outcome(layer: Module, x: Tensor, dy: Tensor, after = (z: Tensor) => z): Float64Array[] {
  const leaf = x.detach();
  leaf.requiresGrad = true;
  const y = after(layer.forward(leaf));
  const parts = grad(y, [leaf, ...layer.parameters()], { gradOutput: dy });
  return [y, ...parts].map((t) => Float64Array.from(t.dataSync()));
}

describe("layers with an activation", () => {
  for (const [name, shape, make] of layers) {
    test(`${name}: the layer, then the activation`, () => {
      for (const activation of names) {
        const [fused, plain] = [make({ activation, dtype: "float64" }), make({ dtype: "float64" })];
        for (const p of plain.parameters()) p.assign(normal(p.shape));
        fused.loadStateDict(plain.stateDict());
        for (const training of [true, false]) {
          const [x, dy] = [normal(shape), normal(shape)];
          const got = outcome(fused.train(training), x, dy);
          const want = outcome(plain.train(training), x, dy, separate[activation]);
          for (const [i, g] of got.entries()) expect(relativeError(g, want[i]!)).toBeLessThanOrEqual(1e-12);
        }
        for (const [key, t] of Object.entries(plain.stateDict())) {
          expect([...fused.stateDict()[key]!.dataSync()]).toEqual([...t.dataSync()]);
        }
      }
    });

    test(`${name}: an activation that is not known`, () => {
      expect(() => make({ activation: "geluu" })).toThrow(/activation must be .*Did you mean "gelu"\?/);
      expect(() => make({ activation: 3 })).toThrow(OptionError);
    });
  }

  test("functional forms", () => {
    const x = normal([3, 4, 5]);
    const [w, b] = [normal([4]), normal([4])];
    const near = (y: Tensor, z: Tensor) =>
      expect(relativeError(y.dataSync(), A.silu(z).dataSync())).toBeLessThanOrEqual(1e-13);
    const o = { weight: w, bias: b };
    const activation = "silu" as const;
    near(F.batchNorm(x, { ...o, training: true, activation }), F.batchNorm(x, { ...o, training: true }));
    const given = { ...o, runningMean: normal([4]), runningVar: normal([4]).square() };
    near(F.batchNorm(x, { ...given, activation }), F.batchNorm(x, given));
    near(F.instanceNorm(x, { ...o, activation }), F.instanceNorm(x, o));
    const evaluated = { ...given, useInputStats: false };
    near(F.instanceNorm(x, { ...evaluated, activation }), F.instanceNorm(x, evaluated));
    near(F.groupNorm(x, 2, { ...o, activation }), F.groupNorm(x, 2, o));
    near(F.layerNorm(x, 5, { activation }), F.layerNorm(x, 5));
    near(F.rmsNorm(x, 5, { activation }), F.rmsNorm(x, 5));
  });

  test("nothing is kept of what goes into the activation", () => {
    const x = randn([8, 16, 12, 12], { random });
    const bytes = 4 * x.size;
    x.requiresGrad = true;
    const run = (o: object, after: (z: Tensor) => Tensor) => {
      const layer = new BatchNorm2d(16, o);
      const start = heap.stats.liveBytes;
      heap.resetPeak();
      const kept = scope(() => {
        const y = scope(() => after(layer.forward(x)));
        const held = heap.stats.liveBytes - start;
        grad(y, x, { gradOutput: x });
        return held;
      });
      return { kept, peak: heap.stats.peakBytes - start };
    };
    const [fused, apart] = [run({ activation: "gelu" }, (y) => y), run({}, (y) => A.gelu(y))];
    // y and the statistics; apart also what gelu saved.
    expect(fused.kept).toBeLessThan(1.05 * bytes);
    expect(apart.kept).toBeGreaterThan(2 * bytes);
    // Backward makes dx, and apart also the gradient to what gelu saved.
    expect(apart.peak - fused.peak).toBeGreaterThanOrEqual(bytes);
  });
});

describe("RMSNorm with a weight offset", () => {
  test("weights start at what makes the factor 1, and count with the offset", () => {
    const x = normal([3, 5]);
    const [plain, gemma] = [
      new RMSNorm(5, { dtype: "float64" }),
      new RMSNorm(5, { weightOffset: 1, dtype: "float64" }),
    ];
    expect([...gemma.weight!.dataSync()]).toEqual([0, 0, 0, 0, 0]);
    expect([...gemma.forward(x).dataSync()]).toEqual([...plain.forward(x).dataSync()]);
    const w = normal([5]);
    gemma.weight!.assign(w);
    plain.weight!.assign(w.add(1));
    const dy = normal([3, 5]);
    expect(outcome(gemma, x, dy)).toEqual(outcome(plain, x, dy));
    const eps = 1e-6;
    const functional = F.rmsNorm(x, 5, { weight: w, weightOffset: 1, eps });
    expect([...functional.dataSync()]).toEqual([...F.rmsNorm(x, 5, { weight: w.add(1), eps }).dataSync()]);
  });

  test("an offset that is no number", () => {
    for (const weightOffset of ["1", Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new RMSNorm(5, { weightOffset } as object)).toThrow(/RMSNorm: weightOffset must be a finite number/);
    }
  });
});
