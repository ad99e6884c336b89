import { describe, expect, test } from "vitest";
import type { ActivationOp, KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import type { Storage } from "../../src/memory/storage.js";
import type { ColumnView } from "../../src/norm/views.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const view = (batch: number, outer: number, channels: number, inner: number, merge = 1): ColumnView => ({
  batch,
  outer,
  channels,
  inner,
  merge,
});

const views: ColumnView[] = [
  ...awkwardSizes.map((n) => view(1, 5, 3, n)),
  ...awkwardSizes.map((n) => view(1, n, 6, 1)),
  ...awkwardSizes.map((n) => view(1, 7, n, 1)),
  view(1, 1, 1, 4),
  view(1, 100, 1, 1),
  view(1, 1000, 3, 1), // folded, with rows left over
  view(1, 8191, 5, 3),
  view(1, 300, 70, 7), // inner side by side with channels
  view(1, 1500, 67, 1),
  view(1, 70, 2100, 1), // wide: constants outgrow the first-level cache
  view(1, 64, 17_003, 1), // several blocks of columns
  view(1, 5, 39, 11_003), // units of several channels
  view(2, 3, 24, 15_001, 2), // units of several groups
  view(1, 32, 64, 49),
  view(1, 5, 700, 49), // evaluation by runs: constants of a row outgrow the cache
  view(1, 9, 33, 130), // whole channels
  view(1, 40, 3, 1000), // few channels: blocks of rows
  view(1, 2, 2, 40_003), // few rows too: blocks of runs
  view(3, 50, 8, 1), // instance norm, channels-last
  view(20, 333, 12, 1),
  view(2, 6000, 12, 1),
  view(20, 333, 12, 1, 4), // group norm, channels-last
  view(2, 6000, 12, 1, 12),
  view(17, 60, 3, 1, 3),
  view(3, 4, 6, 200, 3),
  view(2, 30, 4, 700, 2),
  view(2, 30, 4, 9, 2),
];

const nameOf = ({ batch, outer, channels, inner, merge }: ColumnView): string =>
  `[${batch}, ${outer}, ${channels}, ${inner}], merge ${merge}`;

function inputs(make: Maker, v: ColumnView): { x: Storage; dy: Storage; weight: Storage; bias: Storage } {
  const size = v.batch * v.outer * v.channels * v.inner;
  return {
    x: make.normal(size, 3, 2),
    dy: make.normal(size, 0.5),
    weight: make.normal(v.channels, 1, 0.5),
    bias: make.normal(v.channels),
  };
}

function stats(make: Maker, v: ColumnView): { mean: Storage; variance: Storage } {
  const length = (v.batch * v.channels) / v.merge;
  return { mean: make.empty(length, "float64"), variance: make.empty(length, "float64") };
}

const forward = (v: ColumnView, affine: boolean): ConformanceCase => ({
  name: `columnNorm ${nameOf(v)}${affine ? "" : ", no affine"}`,
  tolerance: 5e-7,
  run: (kernels, make) => {
    const { x, weight, bias } = inputs(make, v);
    const s = stats(make, v);
    const y = make.empty(x.length);
    kernels.columnNorm(x, affine ? weight : null, affine ? bias : null, y, s, v, 1e-5);
    return [y, s.mean, s.variance];
  },
});

const evaluation = (v: ColumnView, single: boolean): ConformanceCase => ({
  name: `columnNormEval ${nameOf(v)}, ${single ? "running" : "float64"} statistics`,
  tolerance: 5e-7,
  run: (kernels, make) => {
    const { x, weight, bias } = inputs(make, v);
    const length = (v.batch * v.channels) / v.merge;
    const mean = make.normal(length, 3);
    const variance = make.uniform(length, 0.1, 4);
    const dtype = single ? make.float : "float64";
    const s = { mean: make.from(mean.view, dtype), variance: make.from(variance.view, dtype) };
    const y = make.empty(x.length);
    kernels.columnNormEval(x, weight, single ? null : bias, y, s, v, 1e-3);
    return [y];
  },
});

/** Of four values dx keeps two degrees of freedom, so that it is small beside what is taken from dy, whose rounding stays. */
const onWebGPU = ({ outer, inner, merge }: ColumnView): number => (outer * inner * merge > 4 ? 5e-7 : 1e-6);

type Wanted = "all" | "dx" | "affine" | "dBias";

const gradient = (v: ColumnView, frozen: boolean, wanted: Wanted): ConformanceCase => ({
  name: `columnNormGrad ${nameOf(v)}, ${wanted}${frozen ? ", frozen" : ""}`,
  // A sum of thousands of products of either sign is small beside its terms, whose rounding stays.
  tolerance: 1e-6,
  webgpu: onWebGPU(v),
  run: (kernels, make) => {
    const { x, dy, weight } = inputs(make, v);
    const s = stats(make, v);
    const y = make.empty(x.length);
    kernels.columnNorm(x, null, null, y, s, v, 1e-5);
    const dx = wanted === "all" || wanted === "dx" ? make.empty(x.length) : null;
    const dWeight = wanted === "all" || wanted === "affine" ? make.empty(v.channels) : null;
    const dBias = wanted !== "dx" ? make.empty(v.channels) : null;
    kernels.columnNormGrad(x, dy, wanted === "affine" ? null : weight, s, { dx, dWeight, dBias }, v, 1e-5, frozen);
    return [dx, dWeight, dBias].filter((slot) => slot !== null);
  },
});

/** The parts that a statistic over more values than x has is put together from. */
const parts = (v: ColumnView): ConformanceCase => ({
  name: `columnMoments, columnSums, columnDx ${nameOf(v)}`,
  tolerance: 1e-6,
  run: (kernels, make) => {
    const { x, dy, weight } = inputs(make, v);
    const own = stats(make, v);
    kernels.columnMoments(x, own, v);
    const length = own.mean.length;
    // Statistics and sums that are not those of x: others have moved them.
    const mean = make.from(make.normal(length, 3.25, 0.1).view, "float64");
    const variance = make.from(make.uniform(length, 1, 3).view, "float64");
    const sums = make.empty(2 * v.batch * v.channels, "float64");
    kernels.columnSums(x, dy, { mean, variance }, sums, v);
    const total = make.from(make.normal(sums.length, 0, Math.sqrt(v.outer * v.inner)).view, "float64");
    const counts = make.from(
      Float64Array.from({ length }, (_, i) => v.outer * v.inner * v.merge + 1 + i),
      "float64",
    );
    const dx = make.empty(x.length);
    kernels.columnDx(x, dy, weight, { mean, variance }, total, counts, dx, v, 1e-5);
    return [own.mean, own.variance, sums, dx];
  },
});

const activations: ActivationOp[] = ["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"];

/** Two of the activations meet each view on WebGPU, where one is an expression in a shader that goes over x in the same way for all. */
const inEveryView = new Set<ActivationOp>(["relu", "silu"]);
const anExpression = (op: ActivationOp): Pick<ConformanceCase, "webgpu"> =>
  inEveryView.has(op) ? {} : { webgpu: "as relu and silu in this view; each activation is held in four others" };

/** Forward, beside x and over it, and gradient through an activation. */
const activated = (v: ColumnView, op: ActivationOp, frozen: boolean, wanted: Wanted = "all"): ConformanceCase => ({
  name: `${op} ${nameOf(v)}, ${wanted}${frozen ? ", frozen" : ""}`,
  // As for the gradient above; on WebGPU the slope of the activation rounds too.
  tolerance: 1e-6,
  run: (kernels, make) => {
    const { x, dy, weight, bias } = inputs(make, v);
    const s = stats(make, v);
    const [y, over] = [make.empty(x.length), make.from(x.view)];
    const through = { op, alpha: 0.3, bias };
    kernels.columnNorm(x, weight, bias, y, s, v, 1e-5, through);
    if (frozen) kernels.columnNormEval(over, weight, bias, over, s, v, 1e-5, through);
    else kernels.columnNorm(over, weight, bias, over, s, v, 1e-5, through);
    const dx = wanted === "all" || wanted === "dx" ? make.empty(x.length) : null;
    const dWeight = wanted === "all" || wanted === "affine" ? make.empty(v.channels) : null;
    const dBias = wanted !== "dx" ? make.empty(v.channels) : null;
    kernels.columnNormGrad(x, dy, weight, s, { dx, dWeight, dBias }, v, 1e-5, frozen, through);
    return [y, over, dx, dWeight, dBias].filter((slot) => slot !== null);
  },
});

/** The gradient written over dy. */
const overDy = (v: ColumnView, frozen: boolean): ConformanceCase => ({
  name: `columnNormGrad ${nameOf(v)}, dx in dy${frozen ? ", frozen" : ""}`,
  tolerance: 1e-6,
  webgpu: onWebGPU(v),
  run: (kernels, make) => {
    const { x, dy, weight } = inputs(make, v);
    const s = stats(make, v);
    kernels.columnNorm(x, null, null, make.empty(x.length), s, v, 1e-5);
    const out = { dx: dy, dWeight: make.empty(v.channels), dBias: make.empty(v.channels) };
    kernels.columnNormGrad(x, dy, weight, s, out, v, 1e-5, frozen);
    return [dy, out.dWeight, out.dBias];
  },
});

const ways = [view(1, 300, 70, 7), view(2, 6000, 12, 1, 4), view(1, 9, 33, 130), view(1, 40, 3, 1000)];

conformance("column norm", [
  ...views.flatMap((v, i) => [
    ...[activations[i % 7]!, activations[(i + 3) % 7]!].map((op, k) => ({
      ...activated(v, op, k === 1),
      ...anExpression(op),
    })),
    overDy(v, i % 2 === 0),
  ]),
  ...[view(2, 30, 4, 3000, 2), view(1, 40, 30, 1000), view(1, 70, 2100, 1), view(20, 333, 12, 1)].flatMap((v, i) =>
    activations.map((op, j) => activated(v, op, (i + j) % 2 === 0)),
  ),
  ...ways.flatMap((v) =>
    (["dx", "affine", "dBias"] as const).flatMap((w) => [
      activated(v, "silu", false, w),
      activated(v, "gelu", true, w),
    ]),
  ),
  ...views.flatMap((v, i) => [
    forward(v, i % 3 !== 0),
    evaluation(v, i % 2 === 0),
    gradient(v, false, "all"),
    gradient(v, true, "all"),
    parts(v),
  ]),
  ...ways.flatMap((v) =>
    (["dx", "affine", "dBias"] as const).flatMap((wanted) => [gradient(v, false, wanted), gradient(v, true, wanted)]),
  ),
]);

describe("column norm, edge cases", () => {
  const normalize = (kernels: KernelSet, make: Maker, values: ArrayLike<number>, v: ColumnView, bias = 0.3) => {
    const x = make.from(values);
    const y = make.empty(x.length);
    const s = stats(make, v);
    const weight = make.from(new Float64Array(v.channels).fill(1.7));
    kernels.columnNorm(x, weight, make.from(new Float64Array(v.channels).fill(bias)), y, s, v, 1e-5);
    return { x, y, s, weight };
  };
  const shapes = [
    view(1, 6, 20, 100),
    view(1, 30, 3, 1000),
    view(1, 77, 20, 1),
    view(1, 700, 3, 2),
    view(20, 40, 4, 1, 2),
  ];
  const total = (v: ColumnView) => v.batch * v.outer * v.channels * v.inner;

  for (const v of shapes) {
    test(`zero variance ${nameOf(v)}: the output is the bias, gradients are finite`, () => {
      for (const value of [0, 0.1, -12_345.678, 1e-20, 3e19]) {
        const make = new Maker("float32", 1);
        const constant = new Float32Array(total(v)).fill(value);
        const { x, y, s, weight } = normalize(wasm as KernelSet, make, constant, v);
        expect(y.view.every((e) => e === Math.fround(0.3))).toBe(true);
        expect(s.mean.view.every((e) => e === Math.fround(value))).toBe(true);
        expect(s.variance.view.every((e) => e === 0)).toBe(true);
        const out = { dx: make.empty(x.length), dWeight: make.empty(v.channels), dBias: make.empty(v.channels) };
        wasm.columnNormGrad!(x, make.normal(x.length), weight, s, out, v, 1e-5, false);
        for (const slot of Object.values(out)) expect(slot.view.every(Number.isFinite)).toBe(true);
        make.release();
      }
    });

    test(`NaN and infinity ${nameOf(v)}: stay in their statistic group and reach the output`, () => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const make = new Maker("float32", 2);
        const values = make.normal(total(v)).view.slice();
        const at = Math.floor(total(v) * 0.7);
        values[at] = bad;
        const { y } = normalize(wasm as KernelSet, make, values, v);
        const want = normalize(reference, make, values, v).y;
        const spoilt = [...want.view].filter(Number.isNaN).length;
        expect(spoilt).toBe(v.outer * v.inner * v.merge);
        expect([...y.view].map(Number.isNaN)).toEqual([...want.view].map(Number.isNaN));
        make.release();
      }
    });

    test(`values up to 1e19 ${nameOf(v)}: finite statistics, as accurate as others`, () => {
      const make = new Maker("float32", 3);
      const values = Array.from({ length: total(v) }, (_, i) => Math.fround(Math.sin(i * i) * 1e19));
      const { y, s } = normalize(wasm as KernelSet, make, values, v, 0);
      const want = normalize(reference, make, values, v, 0);
      for (const [i, e] of s.variance.view.entries())
        expect(Math.abs(e / want.s.variance.view[i]! - 1)).toBeLessThan(5e-7);
      for (const [i, e] of y.view.entries()) expect(Math.abs(e - want.y.view[i]!)).toBeLessThan(1e-6);
      make.release();
    });
  }

  test("nothing to do for empty slots", () => {
    const make = new Maker("float32", 4);
    for (const v of [view(1, 0, 3, 5), view(0, 4, 3, 5), view(1, 4, 0, 1), view(1, 4, 3, 0)]) {
      const { x, y, s } = normalize(wasm as KernelSet, make, [], v);
      wasm.columnNormEval!(x, null, null, y, s, v, 1e-5);
      const dBias = make.empty(v.channels);
      wasm.columnNormGrad!(x, x, null, s, { dx: y, dWeight: null, dBias }, v, 1e-5, false);
      expect([...dBias.view]).toEqual(new Array(v.channels).fill(0));
    }
    make.release();
  });

  test("evaluation may write over its input", () => {
    for (const v of shapes) {
      const make = new Maker("float32", 5);
      const x = make.normal(total(v));
      const y = make.empty(x.length);
      const length = (v.batch * v.channels) / v.merge;
      const s = { mean: make.normal(length), variance: make.uniform(length, 1, 2) };
      wasm.columnNormEval!(x, null, null, y, s, v, 1e-5);
      wasm.columnNormEval!(x, null, null, x, s, v, 1e-5);
      expect([...x.view]).toEqual([...y.view]);
      make.release();
    }
  });

  test("updateRunning averages the groups in float64", () => {
    const make = new Maker("float32", 6);
    const running = make.from([1, 2]);
    const batch = make.from([3, 10, 5, 30], "float64");
    reference.updateRunning(running, batch, 2, 0.25, 1.5);
    expect([...running.view]).toEqual([0.75 * 1 + 0.25 * 1.5 * 4, 0.75 * 2 + 0.25 * 1.5 * 20]);
    make.release();
  });
});
