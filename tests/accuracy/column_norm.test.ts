import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import type { NormGrads, Stats } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { columnNorm as wasm } from "../../src/kernels/wasm/column_norm.js";
import { planOf } from "../../src/kernels/wasm/column_plan.js";
import { Storage } from "../../src/memory/storage.js";
import type { ColumnView } from "../../src/norm/views.js";
import { input, samples } from "./column_input.js";

/** The promise: max|y - y64| / max|y64|, y64 being the same formula in float64 on the same float32 input. */
const BOUND = 2.5e-7;
const EPS = 1e-5;

const views: Record<string, ColumnView> = {
  "channels-first, 7x7": { batch: 1, outer: 32, channels: 16, inner: 49, merge: 1 },
  "channels-first, 56x56": { batch: 1, outer: 3, channels: 18, inner: 3136, merge: 1 },
  "channels-first, few channels": { batch: 1, outer: 32, channels: 3, inner: 3136, merge: 1 },
  "channels-first, two large samples": { batch: 1, outer: 2, channels: 4, inner: 30_001, merge: 1 },
  "channels-first, inner 7": { batch: 1, outer: 4096, channels: 5, inner: 7, merge: 1 },
  "channels-last": { batch: 1, outer: 4096, channels: 19, inner: 1, merge: 1 },
  "channels-last, folded": { batch: 1, outer: 4099, channels: 3, inner: 1, merge: 1 },
  "channels-last, wide": { batch: 1, outer: 32, channels: 2100, inner: 1, merge: 1 },
  "three rows": { batch: 1, outer: 3, channels: 64, inner: 1, merge: 1 },
  "two rows": { batch: 1, outer: 2, channels: 64, inner: 1, merge: 1 },
  "batch view": { batch: 5, outer: 400, channels: 12, inner: 1, merge: 1 },
  "batch view, one unit an entry": { batch: 20, outer: 150, channels: 12, inner: 1, merge: 1 },
  "merged, channels-last": { batch: 3, outer: 700, channels: 24, inner: 1, merge: 6 },
  "merged, channels-first": { batch: 2, outer: 4, channels: 12, inner: 500, merge: 3 },
};

function slotsOf(dtype: "float32" | "float64") {
  const made: Storage[] = [];
  const empty = (length: number, type: "float32" | "float64" = dtype) => {
    const s = new Storage(length, type);
    made.push(s);
    return s;
  };
  const from = (values: ArrayLike<number>, type?: "float32" | "float64") => {
    const s = empty(values.length, type);
    s.view.set(values);
    return s;
  };
  return { empty, from, release: () => made.forEach((s) => void s.release()) };
}

interface Outcome {
  readonly y: Float64Array;
  readonly grads: Record<string, Float64Array>;
}

/** Forward, then backward with the statistics that forward wrote: float32 in WASM, or float64 in reference. */
function outcome(dtype: "float32" | "float64", v: ColumnView, x: Float32Array, seed: number): Outcome {
  const { empty, from, release } = slotsOf(dtype);
  const kernels = dtype === "float32" ? wasm : reference;
  const random = new Random(seed + 1000);
  const normal = (length: number, mean: number, std: number) =>
    from(Float32Array.from({ length }, () => mean + std * random.normal()));
  const xs = from(x);
  const dy = normal(x.length, 0, 1);
  const weight = normal(v.channels, 1, 0.3);
  const bias = normal(v.channels, 0, 0.3);
  const y = empty(x.length);
  const length = (v.batch * v.channels) / v.merge;
  const stats: Stats = { mean: empty(length, "float64"), variance: empty(length, "float64") };
  const out = { dx: empty(x.length), dWeight: empty(v.channels), dBias: empty(v.channels) } satisfies NormGrads;
  kernels.columnNorm(xs, weight, bias, y, stats, v, EPS);
  kernels.columnNormGrad(xs, dy, weight, stats, out, v, EPS, false);
  const copy = (s: Storage) => Float64Array.from(s.view);
  const result = { y: copy(y), grads: { dx: copy(out.dx), dWeight: copy(out.dWeight), dBias: copy(out.dBias) } };
  release();
  return result;
}

/**
 * dWeight and dBias are sums of n products of either sign, about sqrt(n) in size: with three channels all may be far smaller by
 * chance, while the rounding of their terms stays. `atLeast` is the size below which a largest element counts as chance.
 */
function error(y: Float64Array, want: Float64Array, atLeast = 0): number {
  let top = atLeast;
  let worst = 0;
  for (const [i, w] of want.entries()) {
    top = Math.max(top, Math.abs(w));
    worst = Math.max(worst, Math.abs(y[i]! - w));
  }
  return worst / top;
}

describe("column norm is as accurate as promised", () => {
  for (const [name, v] of Object.entries(views)) {
    test(name, () => {
      const chance = Math.sqrt(v.batch * v.outer * v.inner);
      for (const [kind, sample] of Object.entries(samples)) {
        for (const r of [0, 1, 1e2, 1e4, 1e6]) {
          for (const seed of kind === "normal" ? [1, 2] : [3]) {
            const x = input(v, sample, r, seed);
            const got = outcome("float32", v, x, seed);
            const want = outcome("float64", v, x, seed);
            expect(error(got.y, want.y), `y, ${kind}, r ${r}, seed ${seed}`).toBeLessThanOrEqual(BOUND);
            if (r > 1e4) continue;
            for (const key of Object.keys(got.grads)) {
              const e = error(got.grads[key]!, want.grads[key]!, key === "dx" ? 0 : chance);
              expect(e, `${key}, ${kind}, r ${r}, seed ${seed}`).toBeLessThanOrEqual(BOUND);
            }
          }
        }
      }
    });
  }

  // Neighbouring groups share a unit here, each with a shift and a mean of its own.
  for (const [name, v] of Object.entries({
    "several channels to a unit": { batch: 1, outer: 9, channels: 35, inner: 301, merge: 1 },
    "several groups to a unit": { batch: 2, outer: 3, channels: 36, inner: 500, merge: 2 },
  })) {
    test(name, () => {
      expect(planOf(v).fused).toBe(true);
      expect(planOf(v).unitGroups).toBeGreaterThan(1);
      const chance = Math.sqrt(v.batch * v.outer * v.inner);
      for (const [kind, sample] of Object.entries(samples)) {
        for (const r of [0, 1e2, 1e6]) {
          const x = input(v, sample, r, 7);
          const got = outcome("float32", v, x, 7);
          const want = outcome("float64", v, x, 7);
          expect(error(got.y, want.y), `y, ${kind}, r ${r}`).toBeLessThanOrEqual(BOUND);
          if (r > 1e4) continue;
          for (const key of Object.keys(got.grads)) {
            const e = error(got.grads[key]!, want.grads[key]!, key === "dx" ? 0 : chance);
            expect(e, `${key}, ${kind}, r ${r}`).toBeLessThanOrEqual(BOUND);
          }
        }
      }
    });
  }

  test("evaluation with running statistics, and its gradients", () => {
    for (const [name, v] of Object.entries(views)) {
      for (const r of [0, 1, 1e2, 1e4, 1e6]) {
        const x = input(v, samples.normal!, r, 5);
        const length = (v.batch * v.channels) / v.merge;
        const run = (dtype: "float32" | "float64") => {
          const { empty, from, release } = slotsOf(dtype);
          const random = new Random(6);
          const xs = from(x);
          // Running statistics near those of x: float32 numbers, the same for both.
          const own = { mean: empty(length, "float64"), variance: empty(length, "float64") };
          reference.columnNorm(from(x, "float64"), null, null, empty(x.length, "float64"), own, v, EPS);
          const stats = {
            mean: from(Float32Array.from(own.mean.view, (m) => m + 0.5 * random.normal())),
            variance: from(Float32Array.from({ length }, () => 0.5 + random.uniform())),
          };
          const dy = from(Float32Array.from(x, () => random.normal()));
          const y = empty(x.length);
          const out = { dx: empty(x.length), dWeight: empty(v.channels), dBias: empty(v.channels) };
          const kernels = dtype === "float32" ? wasm : reference;
          kernels.columnNormEval(xs, null, null, y, stats, v, EPS);
          kernels.columnNormGrad(xs, dy, null, stats, out, v, EPS, true);
          const result = [y, out.dx, out.dWeight, out.dBias].map((s) => Float64Array.from(s.view));
          release();
          return result;
        };
        const [got, want] = [run("float32"), run("float64")];
        for (const [i, w] of want.entries()) {
          if (r > 1e4 && i > 0) continue;
          const chance = i > 1 ? Math.sqrt(v.batch * v.outer * v.inner) : 0;
          expect(
            error(got[i]!, w, chance),
            `${name}, r ${r}, ${["y", "dx", "dWeight", "dBias"][i]}`,
          ).toBeLessThanOrEqual(BOUND);
        }
      }
    }
  });
});
