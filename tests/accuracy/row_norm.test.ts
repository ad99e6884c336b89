import { describe, expect, test } from "vitest";
import type { Random } from "../../src/base/random.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import type { RowView } from "../../src/norm/views.js";
import { Maker, relativeError } from "../conformance/harness.js";
import { awkwardRows, draw, normal } from "./row_input.js";

/** What is promised of float32 on the CPU. */
const BOUND = 2.5e-7;
const EPS = 1e-5;
const sizes = [7, 33, 768, 1000, 6272, 100_000];
const seeds = (size: number): number[] => (size > 10_000 ? [1] : [1, 2, 3]);

interface Kind {
  readonly name: string;
  readonly rms?: boolean;
  view(size: number): RowView;
}

/** About 20,000 elements in few or many rows, and 16 elements of the affine at least. */
const rows = (size: number): number => Math.max(2, Math.min(64, Math.ceil(20_000 / size)));
const kinds: Kind[] = [
  { name: "layer", view: (size) => ({ rows: rows(size), size, groups: 1, inner: 1 }) },
  { name: "rms", rms: true, view: (size) => ({ rows: rows(size), size, groups: 1, inner: 1 }) },
  {
    name: "group",
    view: (size) => (size % 8 === 0 ? { rows: 8, size, groups: 2, inner: size / 8 } : instance(size)),
  },
  { name: "instance", view: instance },
];

function instance(size: number): RowView {
  return { rows: 16 * Math.max(1, Math.ceil(rows(size) / 16)), size, groups: 16, inner: size };
}

interface Data {
  readonly x: ArrayLike<number>;
  readonly dy: ArrayLike<number>;
  readonly weight: ArrayLike<number> | null;
  readonly bias: ArrayLike<number> | null;
}

function run(kernels: Partial<KernelSet>, float: "float32" | "float64", data: Data, view: RowView, rms = false) {
  const make = new Maker(float, 0);
  const n = view.rows * view.size;
  const elements = (view.groups * view.size) / view.inner;
  const [x, dy] = [make.from(data.x), make.from(data.dy)];
  const weight = data.weight && make.from(data.weight);
  const bias = data.bias && make.from(data.bias);
  const stats = { mean: rms ? null : make.empty(view.rows, "float64"), variance: make.empty(view.rows, "float64") };
  const y = make.empty(n);
  const out = { dx: make.empty(n), dWeight: make.empty(elements), dBias: make.empty(elements) };
  kernels.rowNorm!(x, weight, bias, y, stats, view, EPS);
  kernels.rowNormGrad!(x, dy, weight, stats, out, view, EPS);
  const copy = (s: { view: ArrayLike<number> }) => Float64Array.from(s.view);
  const result = {
    y: copy(y),
    dx: copy(out.dx),
    dWeight: copy(out.dWeight),
    dBias: copy(out.dBias),
    mean: stats.mean && copy(stats.mean),
    variance: copy(stats.variance),
  };
  make.release();
  return result;
}

/** For each element of the affine, the root of the sum of squares of what its gradient adds up: dy * xhat, and dy. */
function sizeOfSums(data: Data, want: ReturnType<typeof run>, view: RowView): { dWeight: number; dBias: number } {
  const { size, groups, inner } = view;
  const squares = {
    dWeight: new Float64Array((groups * size) / inner),
    dBias: new Float64Array((groups * size) / inner),
  };
  for (let i = 0; i < data.dy.length; i++) {
    const [r, d] = [Math.floor(i / size), i % size];
    const c = (r % groups) * (size / inner) + Math.floor(d / inner);
    const xhat = (data.x[i]! - (want.mean?.[r] ?? 0)) / Math.sqrt(want.variance[r]! + EPS);
    squares.dWeight[c]! += (data.dy[i]! * xhat) ** 2;
    squares.dBias[c]! += data.dy[i]! ** 2;
  }
  const largest = (v: Float64Array) => Math.sqrt(v.reduce((a, b) => Math.max(a, b)));
  return { dWeight: largest(squares.dWeight), dBias: largest(squares.dBias) };
}

/**
 * With `few`, few elements of a row outweigh the others, and max |dWeight| hangs on few sums, which may cancel by chance:
 * float32 products cannot follow them below their own rounding. The size of the sums without cancelling takes its place.
 */
function check(data: Data, kind: Kind, view: RowView, gradients: boolean, few = false): void {
  const got = run(wasm, "float32", data, view, kind.rms);
  const want = run(reference, "float64", data, view, kind.rms);
  const about = `${kind.name} of ${view.size}`;
  expect(relativeError(got.y, want.y), `y, ${about}`).toBeLessThanOrEqual(BOUND);
  if (!gradients) return;
  expect(relativeError(got.dx, want.dx), `dx, ${about}`).toBeLessThanOrEqual(BOUND);
  const floor = few ? sizeOfSums(data, want, view) : { dWeight: 0, dBias: 0 };
  for (const name of ["dWeight", "dBias"] as const) {
    const error = relativeError([...got[name], floor[name]], [...want[name], floor[name]]);
    expect(error, `${name}, ${about}`).toBeLessThanOrEqual(BOUND);
  }
}

/** Equal numbers in all places. */
const same = (a: Float64Array, b: Float64Array): boolean => a.length === b.length && a.every((v, i) => v === b[i]);

describe.each(kinds)("accuracy of row normalization: $name", (kind) => {
  test.each([0, 1, 1e2, 1e4, 1e6])("mean / std = %d", (ratio) => {
    for (const size of sizes) {
      const view = kind.view(size);
      for (const seed of seeds(size)) {
        // Rows differ in scale and sign, so that a statistic taken from a neighbour would show.
        const row = (random: Random, r: number) =>
          normal(random, size, r % 2 ? -ratio : ratio).map((v) => v * (1 + (r % 3)));
        check(draw(view, seed, row), kind, view, ratio <= 1e4);
      }
    }
  });

  test.each([
    ["an outlier in front", 1],
    ["seven outliers in front", 7],
    ["outliers in the first chunk", 40],
  ])("%s, 1e6 standard deviations away", (_, count) => {
    for (const size of sizes) {
      const view = kind.view(size);
      for (const seed of seeds(size)) {
        const row = (random: Random) =>
          normal(random, size, 100).map((v, d) => (d < Math.min(count, size / 7) ? 1e6 : v));
        check(draw(view, seed, row), kind, view, true, true);
      }
    }
  });

  test("an outlier at the start of each chunk of 2048", () => {
    const view = kind.view(6272);
    for (const seed of seeds(6272)) {
      const row = (random: Random) => normal(random, 6272, 0).map((v, d) => (d % 2048 === 0 ? 1e6 : v));
      check(draw(view, seed, row), kind, view, true, true);
    }
  });

  test.each(awkwardRows)("%s", (_, row) => {
    for (const size of sizes) {
      const view = kind.view(size);
      for (const seed of seeds(size)) {
        const data = draw(view, seed, (random) => row(random, size));
        check(data, kind, view, true, true);
      }
    }
  });

  test("inputs up to 1e19 give finite statistics, close to those in float64", () => {
    for (const size of sizes) {
      const view = kind.view(size);
      const data = draw(view, 5, (random) =>
        Array.from({ length: size }, () => (random.uniform() < 0.5 ? -1e19 : 1e19)),
      );
      const got = run(wasm, "float32", data, view, kind.rms);
      const want = run(reference, "float64", data, view, kind.rms);
      expect(got.variance.every(Number.isFinite)).toBe(true);
      expect(relativeError(got.variance, want.variance)).toBeLessThanOrEqual(BOUND);
      expect(relativeError(got.y, want.y)).toBeLessThanOrEqual(BOUND);
    }
  });

  test("rows of one value: y is the bias, gradients are finite", () => {
    if (kind.rms) return;
    for (const size of sizes.slice(0, -1)) {
      const view = kind.view(size);
      for (const value of [0, 0.1, -3e7, 1e19]) {
        const data = draw(view, 6, () => new Array(size).fill(value));
        const got = run(wasm, "float32", data, view);
        const channels = view.size / view.inner;
        const bias = got.y.map((_, i) => {
          const [r, d] = [Math.floor(i / size), i % size];
          return data.bias![(r % view.groups) * channels + Math.floor(d / view.inner)]!;
        });
        expect(same(got.y, bias)).toBe(true);
        expect(same(got.variance, new Float64Array(view.rows))).toBe(true);
        for (const v of [got.dx, got.dWeight, got.dBias]) expect(v.every(Number.isFinite)).toBe(true);
      }
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("%d stays in its own row and reaches its output", (bad) => {
    for (const size of sizes.slice(0, -1)) {
      const view = kind.view(size);
      const rows = (spoilt: boolean) => (random: Random, r: number) =>
        normal(random, size, 1).map((v, d) => (spoilt && r === 1 && d === size - 2 ? bad : v));
      const got = run(wasm, "float32", draw(view, 7, rows(true)), view, kind.rms);
      const clean = run(wasm, "float32", draw(view, 7, rows(false)), view, kind.rms);
      const row = (v: Float64Array, r: number) => v.slice(r * size, (r + 1) * size);
      expect(row(got.y, 1)[size - 2]).toBeNaN();
      for (let r = 0; r < view.rows; r++) {
        if (r === 1) continue;
        expect(same(row(got.y, r), row(clean.y, r))).toBe(true);
        expect(same(row(got.dx, r), row(clean.dx, r))).toBe(true);
      }
    }
  });
});
