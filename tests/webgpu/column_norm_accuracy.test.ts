import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import type { KernelSet } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import type { ColumnView } from "../../src/norm/views.js";
import { input, samples, total } from "../accuracy/column_input.js";
import { Maker, relativeError } from "../conformance/harness.js";
import { Mirror, noWebGPU } from "../conformance/webgpu_mirror.js";

/** The promise: max|y - y64| / max|y64|, y64 being the same formula in float64 on the same float32 input. */
const BOUND = 5e-7;
const EPS = 1e-5;

const views: Record<string, ColumnView> = {
  "channels-first, 7x7": { batch: 1, outer: 32, channels: 6, inner: 49, merge: 1 },
  "channels-first, 56x56": { batch: 1, outer: 3, channels: 4, inner: 3136, merge: 1 },
  "channels-first, one channel in many blocks": { batch: 1, outer: 3, channels: 1, inner: 30_001, merge: 1 },
  "channels-first, inner 7": { batch: 1, outer: 2048, channels: 5, inner: 7, merge: 1 },
  "channels-last": { batch: 1, outer: 2048, channels: 20, inner: 1, merge: 1 },
  "channels-last, odd": { batch: 1, outer: 4099, channels: 3, inner: 1, merge: 1 },
  "channels-last, wide": { batch: 1, outer: 32, channels: 700, inner: 1, merge: 1 },
  "four rows": { batch: 1, outer: 4, channels: 64, inner: 1, merge: 1 },
  "batch view": { batch: 5, outer: 400, channels: 12, inner: 1, merge: 1 },
  "merged, channels-last": { batch: 3, outer: 700, channels: 24, inner: 1, merge: 6 },
  "merged, channels-first": { batch: 2, outer: 4, channels: 12, inner: 500, merge: 3 },
};

type Outcome = Record<"y" | "dx" | "dWeight" | "dBias", Float64Array>;

/** Forward, then backward with the statistics that forward wrote, or with given ones. */
async function outcome(
  on: "webgpu" | "reference",
  v: ColumnView,
  x: Float32Array,
  given?: Float32Array[],
): Promise<Outcome> {
  const make = new Maker(on === "webgpu" ? "float32" : "float64", 1000);
  const mirror = new Mirror(make.made);
  const kernels: KernelSet = on === "webgpu" ? mirror.kernels : reference;
  const xs = make.from(x);
  // With a mean of their own, so that sums of them gather what rounding does to many x alike.
  const [dy, weight, bias] = [
    make.normal(x.length, 0.5),
    make.normal(v.channels, 1, 0.3),
    make.normal(v.channels, 0, 0.3),
  ];
  const length = (v.batch * v.channels) / v.merge;
  const stats = given
    ? { mean: make.from(given[0]!), variance: make.from(given[1]!) }
    : { mean: make.empty(length, "float64"), variance: make.empty(length, "float64") };
  const out = { dx: make.empty(x.length), dWeight: make.empty(v.channels), dBias: make.empty(v.channels) };
  const y = make.empty(x.length);
  if (given) kernels.columnNormEval(xs, weight, bias, y, stats, v, EPS);
  else kernels.columnNorm(xs, weight, bias, y, stats, v, EPS);
  kernels.columnNormGrad(xs, dy, weight, stats, out, v, EPS, given !== undefined);
  await mirror.readBack();
  const results = Object.entries({ y, ...out }).map(([key, slot]) => [key, Float64Array.from(slot.view)]);
  mirror.release();
  make.release();
  return Object.fromEntries(results);
}

async function compare(v: ColumnView, x: Float32Array, r: number, what: string, given?: Float32Array[]): Promise<void> {
  const got = await outcome("webgpu", v, x, given);
  const want = await outcome("reference", v, x, given);
  for (const key of ["y", "dx", "dWeight", "dBias"] as const) {
    if (key !== "y" && r > 1e4) continue;
    expect(relativeError(got[key], want[key]), `${key}, ${what}, r ${r}`).toBeLessThanOrEqual(BOUND);
  }
}

describe.skipIf(noWebGPU !== null)("column norm on webgpu is as accurate as promised", () => {
  for (const [name, v] of Object.entries(views)) {
    test(name, async () => {
      for (const [kind, sample] of Object.entries(samples)) {
        for (const r of kind === "normal" ? [0, 1, 1e2, 1e4, 1e6] : [0, 1e4, 1e6]) {
          await compare(v, input(v, sample, r, 3), r, kind);
        }
      }
    });

    test(`${name}, running statistics`, async () => {
      const random = new Random(6);
      const length = (v.batch * v.channels) / v.merge;
      for (const r of [0, 1e2, 1e4, 1e6]) {
        const x = input(v, samples.normal!, r, 5);
        const own = new Maker("float64", 1);
        const stats = { mean: own.empty(length), variance: own.empty(length) };
        reference.columnMoments(own.from(x), stats, v);
        const mean = Float32Array.from(stats.mean.view, (m) => m + 0.5 * random.normal());
        own.release();
        await compare(v, x, r, "running", [mean, Float32Array.from({ length }, () => 0.5 + random.uniform())]);
      }
    });
  }

  test("values up to 1e19, zero variance, NaN and infinity", async () => {
    for (const v of [views["channels-first, 7x7"]!, views["channels-last"]!, views["merged, channels-last"]!]) {
      const size = total(v);
      const huge = Float32Array.from({ length: size }, (_, i) => Math.sin(i * i) * 1e19);
      await compare(v, huge, 1e6, "1e19");
      for (const value of [0, 0.1, -12_345.678, 3e19]) {
        const { y, ...grads } = await outcome("webgpu", v, new Float32Array(size).fill(value));
        const want = await outcome("reference", v, new Float32Array(size).fill(value));
        expect(relativeError(y, want.y)).toBeLessThanOrEqual(1e-7);
        for (const grad of Object.values(grads)) expect(grad.every(Number.isFinite)).toBe(true);
      }
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const x = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
        x[Math.floor(size * 0.7)] = bad;
        const [got, want] = [await outcome("webgpu", v, x), await outcome("reference", v, x)];
        expect([...got.y].map(Number.isNaN)).toEqual([...want.y].map(Number.isNaN));
      }
    }
  });

  test("nothing to do for empty slots, and running statistics move", async () => {
    const make = new Maker("float32", 4);
    const mirror = new Mirror(make.made);
    const { kernels } = mirror;
    for (const [outer, channels, inner] of [
      [0, 3, 5],
      [4, 0, 1],
      [4, 3, 0],
    ] as const) {
      const v = { batch: 1, outer, channels, inner, merge: 1 };
      const x = make.empty(0);
      const stats = { mean: make.empty(channels, "float64"), variance: make.empty(channels, "float64") };
      const [dWeight, dBias] = [make.empty(channels), make.empty(channels)];
      kernels.columnNorm(x, null, null, x, stats, v, EPS);
      kernels.columnNormEval(x, null, null, x, stats, v, EPS);
      kernels.columnNormGrad(x, x, null, stats, { dx: x, dWeight, dBias }, v, EPS, false);
      await mirror.readBack();
      for (const grad of [dWeight, dBias]) expect([...grad.view]).toEqual(new Array(channels).fill(0));
    }
    const running = make.from([1, 1e6]);
    const batch = make.from([3, 1e6 + 0.25, 5, 1e6 + 0.5, 10, 1e6], "float64");
    kernels.updateRunning(running, batch, 3, 0.25, 1.5);
    await mirror.readBack();
    expect(running.view[0]).toBeCloseTo(0.75 + 0.25 * 1.5 * 6, 6);
    expect(running.view[1]).toBeCloseTo(0.75e6 + 0.25 * 1.5 * (1e6 + 0.25), 0);
    mirror.release();
    make.release();
  });
});
