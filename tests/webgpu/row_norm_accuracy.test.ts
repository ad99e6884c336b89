import { describe, expect, test } from "vitest";
import type { Random } from "../../src/base/random.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { partOf } from "../../src/memory/heap.js";
import type { RowView } from "../../src/norm/views.js";
import { awkwardRows, draw, normal } from "../accuracy/row_input.js";
import { Maker, relativeError } from "../conformance/harness.js";
import { Mirror, noWebGPU } from "../conformance/webgpu_mirror.js";

/** What docs/webgpu.md promises. */
const BOUND = 5e-7;
const EPS = 1e-5;
/** Few lanes, all lanes by fours and one by one, and a row in parts. */
const sizes = [7, 768, 1001, 6272, 20_008];

interface Kind {
  readonly name: string;
  readonly rms?: boolean;
  view(size: number): RowView;
}
const rows = (size: number): number => Math.max(2, Math.min(64, Math.ceil(5000 / size)));
const layer = (size: number): RowView => ({ rows: rows(size), size, groups: 1, inner: 1 });
const instance = (size: number): RowView => ({ rows: 16, size, groups: 8, inner: size });
const kinds: Kind[] = [
  { name: "layer", view: layer },
  { name: "rms", rms: true, view: layer },
  {
    name: "group",
    view: (size) => (size % 8 === 0 ? { rows: 8, size, groups: 2, inner: size / 8 } : instance(size)),
  },
  { name: "instance", view: instance },
];

interface Data {
  readonly x: Float32Array;
  readonly dy: Float32Array;
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

type Results = Record<"y" | "dx" | "dWeight" | "dBias" | "variance", Float64Array> & { mean: Float64Array | null };

function compute(kernels: KernelSet, make: Maker, data: Data, view: RowView, rms: boolean): () => Results {
  const n = view.rows * view.size;
  const elements = (view.groups * view.size) / view.inner;
  const [x, dy, weight, bias] = [make.from(data.x), make.from(data.dy), make.from(data.weight), make.from(data.bias)];
  const stats = { mean: rms ? null : make.empty(view.rows, "float64"), variance: make.empty(view.rows, "float64") };
  const y = make.empty(n);
  const out = { dx: make.empty(n), dWeight: make.empty(elements), dBias: make.empty(elements) };
  kernels.rowNorm(x, weight, bias, y, stats, view, EPS);
  kernels.rowNormGrad(x, dy, weight, stats, out, view, EPS);
  const copy = (s: { view: ArrayLike<number> }) => Float64Array.from(s.view);
  return () => ({
    ...{ y: copy(y), dx: copy(out.dx), dWeight: copy(out.dWeight), dBias: copy(out.dBias) },
    ...{ mean: stats.mean && copy(stats.mean), variance: copy(stats.variance) },
  });
}

function expected(data: Data, view: RowView, rms = false): Results {
  const make = new Maker("float64", 0);
  const results = compute(reference, make, data, view, rms)();
  make.release();
  return results;
}

async function onGpu(data: Data, view: RowView, rms = false): Promise<Results> {
  const make = new Maker("float32", 0);
  const mirror = new Mirror(make.made);
  const results = compute(mirror.kernels, make, data, view, rms);
  await mirror.readBack();
  const got = results();
  mirror.release();
  make.release();
  return got;
}

/** For each element of the affine, the root of the sum of squares of what its gradient adds up: dy * xhat, and dy. */
function sizeOfSums(data: Data, want: Results, { size, groups, inner }: RowView): { dWeight: number; dBias: number } {
  const squares = [0, 1].map(() => new Float64Array((groups * size) / inner));
  for (let i = 0; i < data.dy.length; i++) {
    const [r, d] = [Math.floor(i / size), i % size];
    const c = (r % groups) * (size / inner) + Math.floor(d / inner);
    const xhat = (data.x[i]! - (want.mean?.[r] ?? 0)) / Math.sqrt(want.variance[r]! + EPS);
    squares[0]![c]! += (data.dy[i]! * xhat) ** 2;
    squares[1]![c]! += data.dy[i]! ** 2;
  }
  const [dWeight, dBias] = squares.map((v) => Math.sqrt(v.reduce((a, b) => Math.max(a, b))));
  return { dWeight: dWeight!, dBias: dBias! };
}

/**
 * The bound, of dWeight and dBias against the largest, or against the size of the sums without cancelling where that is
 * more: few sums may all cancel by chance, and float32 products cannot follow them below their own rounding.
 */
async function check(data: Data, kind: Kind, view: RowView, gradients = true): Promise<void> {
  const got = await onGpu(data, view, kind.rms);
  const want = expected(data, view, kind.rms);
  const about = `${kind.name} of ${view.size}`;
  expect(relativeError(got.y, want.y), `y, ${about}`).toBeLessThanOrEqual(BOUND);
  if (!gradients) return;
  expect(relativeError(got.dx, want.dx), `dx, ${about}`).toBeLessThanOrEqual(BOUND);
  const floor = sizeOfSums(data, want, view);
  for (const name of ["dWeight", "dBias"] as const) {
    const error = relativeError([...got[name], floor[name]], [...want[name], floor[name]]);
    expect(error, `${name}, ${about}`).toBeLessThanOrEqual(BOUND);
  }
}

describe.skipIf(noWebGPU !== null).each(kinds)("accuracy of row normalization on webgpu: $name", (kind) => {
  test.each([0, 1, 1e2, 1e4, 1e6])("mean / std = %d", async (ratio) => {
    for (const size of sizes) {
      // Rows differ in scale and sign, so that a statistic taken from a neighbour would show.
      const row = (random: Random, r: number) =>
        normal(random, size, r % 2 ? -ratio : ratio).map((v) => v * (1 + (r % 3)));
      await check(draw(kind.view(size), 1, row), kind, kind.view(size), ratio <= 1e4);
    }
  });

  test.each([
    ["an outlier in front", 1],
    ["seven outliers in front", 7],
    ["outliers in the first part", 40],
  ])("%s, 1e6 standard deviations away", async (_, count) => {
    for (const size of sizes) {
      const row = (random: Random) =>
        normal(random, size, 100).map((v, d) => (d < Math.min(count, size / 7) ? 1e6 : v));
      await check(draw(kind.view(size), 2, row), kind, kind.view(size));
    }
  });

  test.each(awkwardRows)("%s", async (_, row) => {
    for (const size of sizes) {
      await check(
        draw(kind.view(size), 3, (random) => row(random, size)),
        kind,
        kind.view(size),
      );
    }
  });

  test("inputs up to 1e19 give finite statistics, close to those in float64", async () => {
    for (const size of sizes) {
      const view = kind.view(size);
      const row = (random: Random) => Array.from({ length: size }, () => (random.uniform() < 0.5 ? -1e19 : 1e19));
      const data = draw(view, 5, row);
      const [got, want] = [await onGpu(data, view, kind.rms), expected(data, view, kind.rms)];
      expect(relativeError(got.variance, want.variance)).toBeLessThanOrEqual(BOUND);
      expect(relativeError(got.y, want.y)).toBeLessThanOrEqual(BOUND);
    }
  });

  test("rows of one value: y is the bias, gradients are finite", async () => {
    if (kind.rms) return;
    for (const size of sizes) {
      const view = kind.view(size);
      for (const value of [0.1, -3e7, 1e19]) {
        const data = draw(view, 6, () => new Array(size).fill(value));
        const got = await onGpu(data, view);
        const bias = got.y.map((_, i) => {
          const [r, d] = [Math.floor(i / size), i % size];
          return data.bias[(r % view.groups) * (size / view.inner) + Math.floor(d / view.inner)]!;
        });
        expect(got.y.every((v, i) => v === bias[i])).toBe(true);
        expect(got.variance.every((v) => v === 0)).toBe(true);
        for (const v of [got.dx, got.dWeight, got.dBias]) expect(v.every(Number.isFinite)).toBe(true);
      }
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("%d stays in its own row and reaches its output", async (bad) => {
    for (const size of sizes) {
      const view = kind.view(size);
      const spoil = (spoilt: boolean) => (random: Random, r: number) =>
        normal(random, size, 1).map((v, d) => (spoilt && r === 1 && d === size - 2 ? bad : v));
      const got = await onGpu(draw(view, 7, spoil(true)), view, kind.rms);
      const clean = await onGpu(draw(view, 7, spoil(false)), view, kind.rms);
      expect(got.y[2 * size - 2]).toBeNaN();
      const others = (v: Float64Array) => v.filter((_, i) => Math.floor(i / size) !== 1);
      for (const name of ["y", "dx"] as const) expect(others(got[name])).toEqual(others(clean[name]));
    }
  });
});

describe.skipIf(noWebGPU !== null)("row normalization on webgpu, in place and in parts of storages", () => {
  const shapes: [string, RowView][] = [
    ["layer", { rows: 9, size: 1000, groups: 1, inner: 1 }],
    ["group", { rows: 8, size: 96, groups: 2, inner: 24 }],
    ["rows in parts", { rows: 3, size: 20_004, groups: 1, inner: 1 }],
  ];

  test.each(shapes)("%s", async (_, view) => {
    const n = view.rows * view.size;
    const elements = (view.groups * view.size) / view.inner;
    const results = async (float: "float32" | "float64", kernelsOf: (make: Maker) => [KernelSet, Mirror | null]) => {
      const make = new Maker(float, 8);
      // Three places in one storage; the second starts at an odd element.
      const all = make.normal(3 * n + 1, 3, 2);
      const [x, residual, dy] = [partOf(all, 0, n), partOf(all, n + 1, n), partOf(all, 2 * n + 1, n)];
      const affine = make.normal(2 * elements);
      const [weight, bias] = [partOf(affine, 0, elements), partOf(affine, elements, elements)];
      const stats = { mean: make.empty(view.rows, "float64"), variance: make.empty(view.rows, "float64") };
      const y = make.empty(n);
      const [dWeight, dBias] = [make.empty(elements), make.empty(elements)];
      const [kernels, mirror] = kernelsOf(make);
      kernels.addRowNorm(x, residual, x, weight, bias, y, stats, view, EPS);
      kernels.rowNormGrad(x, dy, weight, stats, { dx: dy, dWeight, dBias }, view, EPS, { op: "silu", alpha: 0, bias });
      kernels.rowNorm(x, weight, bias, x, stats, view, EPS);
      kernels.rowNormGrad(residual, y, weight, stats, { dx: residual, dWeight: null, dBias: null }, view, EPS);
      await mirror?.readBack();
      const got = [all, y, dWeight, dBias].map((s) => Float64Array.from(s.view));
      mirror?.release();
      make.release();
      return got;
    };
    const want = await results("float64", () => [reference, null]);
    const got = await results("float32", (make) => {
      const mirror = new Mirror(make.made);
      return [mirror.kernels, mirror];
    });
    // Rounding the sum to float32 before its statistics are taken counts too.
    for (const [i, v] of got.entries()) expect(relativeError(v, want[i]!), `output ${i}`).toBeLessThanOrEqual(2e-6);
  });
});
