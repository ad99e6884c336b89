import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import type { Storage } from "../../src/memory/storage.js";
import type { ColumnView, RowView } from "../../src/norm/views.js";
import { Maker, relativeError, rounded } from "../conformance/harness.js";
import { Mirror, noFloat16 } from "../conformance/webgpu_mirror.js";

/** Half of the distance of two halves, and the bound of float32 on WebGPU (docs/webgpu.md). */
const HALF_STEP = 2 ** -11;
const BOUND = 5e-7;
const EPS = 1e-5;

type On =
  | { readonly kernel: "column"; readonly view: ColumnView }
  | { readonly kernel: "row"; readonly view: RowView; readonly rms?: true };
interface Data {
  readonly x: number[];
  readonly dy: number[];
  readonly weight: number[];
  readonly bias: number[];
}

const channels = (outer: number, c: number, inner: number): ColumnView => ({
  ...{ batch: 1, outer, channels: c, inner, merge: 1 },
});
const rows = (count: number, size: number, groups = 1, inner = 1): RowView => ({ rows: count, size, groups, inner });
/** Those that fit registers, those in parts, and widths that are no multiple of four. */
const cases: [string, On][] = [
  ["batch", { kernel: "column", view: channels(8, 5, 196) }],
  ["batch of odd planes", { kernel: "column", view: channels(3, 7, 49) }],
  ["batch over long channels", { kernel: "column", view: channels(4, 2, 6001) }],
  ["batch, channels last", { kernel: "column", view: channels(500, 12, 1) }],
  ["layer", { kernel: "row", view: rows(9, 768) }],
  ["layer of odd rows", { kernel: "row", view: rows(9, 1001) }],
  ["layer of long rows", { kernel: "row", view: rows(3, 20_008) }],
  ["rms", { kernel: "row", view: rows(9, 768), rms: true }],
  ["group", { kernel: "row", view: rows(8, 392, 2, 49) }],
  ["instance", { kernel: "row", view: rows(12, 196, 6, 196) }],
];

const sizes = ({ kernel, view }: On): { x: number; affine: number; statistics: number; count: number } => {
  if (kernel === "row") {
    const affine = (view.groups * view.size) / view.inner;
    return { x: view.rows * view.size, affine, statistics: view.rows, count: view.size };
  }
  const count = view.outer * view.inner;
  return { x: count * view.channels, affine: view.channels, statistics: view.channels, count };
};

/** Statistic group of element i. */
const groupOf = (on: On, i: number): number =>
  on.kernel === "row" ? Math.floor(i / on.view.size) : Math.floor(i / on.view.inner) % on.view.channels;

interface Made {
  readonly outputs: Readonly<Record<string, Storage | null>>;
}

function compute(kernels: KernelSet, make: Maker, data: Data, on: On, halves: Storage[]): Made {
  const { x: n, affine, statistics } = sizes(on);
  const rms = on.kernel === "row" && on.rms === true;
  const [x, dy, y, dx] = [make.from(data.x), make.from(data.dy), make.empty(n), make.empty(n)];
  halves.push(x, dy, y, dx);
  const [weight, bias] = [make.from(data.weight), make.from(data.bias)];
  const mean = rms ? null : make.empty(statistics, "float64");
  const variance = make.empty(statistics, "float64");
  const out = { dx, dWeight: make.empty(affine), dBias: make.empty(affine) };
  if (on.kernel === "row") {
    kernels.rowNorm(x, weight, bias, y, { mean, variance }, on.view, EPS);
    kernels.rowNormGrad(x, dy, weight, { mean, variance }, out, on.view, EPS);
  } else {
    const stats = { mean: mean!, variance };
    kernels.columnNorm(x, weight, bias, y, stats, on.view, EPS);
    kernels.columnNormGrad(x, dy, weight, stats, out, on.view, EPS, false);
  }
  return { outputs: { y, ...out, mean, variance } };
}

const copies = ({ outputs }: Made): Record<string, Float64Array | null> =>
  Object.fromEntries(Object.entries(outputs).map(([name, s]) => [name, s && Float64Array.from(s.view)]));

function draw(on: On, value: (random: Random, group: number) => number): Data {
  const random = new Random(11);
  const { x, affine } = sizes(on);
  const list = (n: number, f: (i: number) => number) => Array.from({ length: n }, (_, i) => f(i));
  return {
    x: list(x, (i) => rounded(value(random, groupOf(on, i)))),
    dy: list(x, () => rounded(random.normal())),
    weight: list(affine, () => Math.fround(1 + 0.3 * random.normal())),
    bias: list(affine, () => Math.fround(random.normal())),
  };
}

/**
 * y and dx, stored as float16, within one rounding to it; statistics, and gradients of a float32 weight and bias, as exact as of
 * float32 inputs, relative to the largest, or to the size of the sums without cancelling where that is more.
 */
async function check(on: On, data: Data, gradients = true): Promise<void> {
  const exact = new Maker("float64", 0);
  const want = copies(compute(reference, exact, data, on, []));
  exact.release();
  const make = new Maker("float32", 0);
  const halves: Storage[] = [];
  const mirror = new Mirror(make.made, (s) => halves.includes(s));
  const made = compute(mirror.kernels, make, data, on, halves);
  await mirror.readBack();
  const got = copies(made);
  mirror.release();
  make.release();
  const floor = Math.sqrt(sizes(on).x / sizes(on).affine);
  const withFloor = (v: Float64Array) => [...v, floor];
  expect(relativeError(got.variance!, want.variance!), "variance").toBeLessThanOrEqual(BOUND);
  // A mean may be 0 by chance: what counts is its error beside the deviation.
  const deviation = Math.sqrt(want.variance!.reduce((a, b) => Math.max(a, b)));
  if (want.mean) {
    expect(relativeError([...got.mean!, deviation], [...want.mean, deviation]), "mean").toBeLessThanOrEqual(BOUND);
  }
  expect(relativeError(got.y!, want.y!), "y").toBeLessThanOrEqual(HALF_STEP + BOUND);
  if (!gradients) return;
  expect(relativeError(got.dx!, want.dx!), "dx").toBeLessThanOrEqual(HALF_STEP + BOUND);
  for (const name of ["dWeight", "dBias"]) {
    expect(relativeError(withFloor(got[name]!), withFloor(want[name]!)), name).toBeLessThanOrEqual(BOUND);
  }
}

describe.skipIf(noFloat16 !== null).each(cases)(
  `normalization of float16, %s${noFloat16 ? ` (${noFloat16})` : ""}`,
  (_, on) => {
    test.each([0, 1, 30, 1000])("mean / std = %d", async (ratio) => {
      const value = (random: Random, g: number) => (random.normal() + (g % 2 ? -ratio : ratio)) * (1 + (g % 3));
      await check(on, draw(on, value));
    });

    test("values up to the largest half", async () => {
      // Squares are beyond float16 by far; dx is as small as x is large.
      const value = (random: Random) => (2 * random.uniform() - 1) * 65_504;
      await check(on, draw(on, value), false);
      const ends = (random: Random) => (random.uniform() < 0.5 ? -65_504 : 65_504);
      await check(on, draw(on, ends), false);
    });

    test("values near the smallest normal halves", async () => {
      await check(
        on,
        draw(on, (random) => random.normal() * 2 ** -9),
      );
    });
  },
);
