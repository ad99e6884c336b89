import { describe, expect, test } from "vitest";
import type { Tensor } from "../../src/autograd/index.js";
import { columnMoments } from "../../src/autograd/ops/column_parts.js";
import type { Module } from "../../src/nn/module.js";
import {
  BatchNorm,
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  LayerNorm,
  RMSNorm,
} from "../../src/nn/norm/index.js";
import { biasedVariance, type Moments, mergeMoments } from "../../src/norm/moments.js";
import { relativeError } from "./harness.js";
import { normal } from "./op_harness.js";

// What follows from the definitions: one layer is another one under some circumstance. Each pair is computed by other views,
// kernels or orders of summation, so they agree to rounding.

const f64 = { dtype: "float64" } as const;
const shape = [6, 8, 5, 3];

/** Output, gradient to the input and gradients of the parameters, all as plain numbers. */
function outcome(layer: Module, x: Tensor, dy: Tensor): Record<string, Float64Array> {
  const y = layer.forward(x);
  const dx = layer.backward(dy);
  const grads = layer.namedParameters().map(([name, p]) => [name, p.grad!] as const);
  return Object.fromEntries([["y", y] as const, ["dx", dx] as const, ...grads].map(([k, t]) => [k, plain(t)]));
}

const plain = (t: Tensor): Float64Array => Float64Array.from(t.dataSync());

function expectSame(a: Record<string, Float64Array>, b: Record<string, Float64Array>, tolerance = 1e-12): void {
  expect(Object.keys(a)).toEqual(Object.keys(b));
  for (const [name, values] of Object.entries(a)) {
    expect(relativeError(values, b[name]!), name).toBeLessThanOrEqual(tolerance);
  }
}

describe("identities", () => {
  test("GroupNorm with one group is LayerNorm over [C, ...]", () => {
    const [x, dy] = [normal(shape, 3, 2), normal(shape)];
    expectSame(
      outcome(new GroupNorm(1, 8, { ...f64, affine: false }), x, dy),
      outcome(new LayerNorm(shape.slice(1), { ...f64, elementwiseAffine: false }), x, dy),
    );
  });

  test("GroupNorm with as many groups as channels is InstanceNorm", () => {
    const [x, dy] = [normal(shape, 3, 2), normal(shape)];
    expectSame(
      outcome(new GroupNorm(8, 8, f64), x, dy),
      outcome(new InstanceNorm2d(8, { ...f64, affine: true }), x, dy),
    );
  });

  test("BatchNorm of one sample is InstanceNorm", () => {
    const [x, dy] = [normal([1, 8, 15], 3, 2), normal([1, 8, 15])];
    expectSame(
      outcome(new BatchNorm1d(8, f64), x, dy),
      outcome(new InstanceNorm1d(8, { ...f64, affine: true }), x, dy),
    );
  });

  test("BatchNorm of the transposed batch is the transpose, in float32 too", () => {
    for (const dtype of ["float64", "float32"] as const) {
      const [x, dy] = [normal(shape, 3, 2).cast(dtype), normal(shape).cast(dtype)];
      const last = (t: Tensor) => t.permute([0, 2, 3, 1]);
      const first = (t: Tensor) => t.permute([0, 3, 1, 2]);
      const a = new BatchNorm2d(8, { dtype });
      const b = new BatchNorm2d(8, { dtype, axis: -1 });
      const y = first(b.forward(last(x)));
      const dx = first(b.backward(last(dy)));
      const gradients = { weight: plain(b.weight!.grad!), bias: plain(b.bias!.grad!) };
      const tolerance = dtype === "float64" ? 1e-12 : 2.5e-7;
      expectSame({ y: plain(y), dx: plain(dx), ...gradients }, outcome(a, x, dy), tolerance);
      expect(relativeError(plain(b.runningVar!), plain(a.runningVar!))).toBeLessThanOrEqual(tolerance);
    }
  });

  test("BatchNorm does not see the order of samples", () => {
    const [x, dy] = [normal([7, 4, 3]), normal([7, 4, 3])];
    const [a, b] = [new BatchNorm1d(4, f64), new BatchNorm1d(4, f64)];
    const y = a.forward(x.flip(0)).flip(0);
    const dx = a.backward(dy.flip(0)).flip(0);
    const gradients = { weight: plain(a.weight!.grad!), bias: plain(a.bias!.grad!) };
    expectSame({ y: plain(y), dx: plain(dx), ...gradients }, outcome(b, x, dy));
  });

  test("statistics for each feature are those of channels where there is one position", () => {
    const [x, dy] = [normal([9, 5]), normal([9, 5])];
    expectSame(outcome(new BatchNorm([5], f64), x, dy), outcome(new BatchNorm1d(5, f64), x, dy));
  });

  test("RMSNorm of rows without a mean is LayerNorm without a bias", () => {
    const [x, dy] = [normal([6, 11], 3, 2), normal([6, 11])];
    const centred = x.sub(x.mean([1], { keepDim: true }));
    const layer = new LayerNorm(11, { ...f64, bias: false });
    const rms = new RMSNorm(11, { ...f64, eps: 1e-5 });
    const a = outcome(layer, centred, dy);
    const b = outcome(rms, centred, dy);
    // LayerNorm's gradient lacks the direction of the mean, which rms has.
    expectSame({ y: a.y!, weight: a.weight! }, { y: b.y!, weight: b.weight! });
    const dx = normal([6, 11]).assign(b.dx!);
    expect(relativeError(plain(dx.sub(dx.mean([1], { keepDim: true }))), a.dx!)).toBeLessThanOrEqual(1e-12);
  });

  test("position statistics with one group are LayerNorm over channels last", () => {
    const [x, dy] = [normal(shape, 3, 2), normal(shape)];
    const layer = new LayerNorm(8, f64);
    const y = layer.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
    const dx = layer.backward(dy.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
    const gradients = { weight: plain(layer.weight!.grad!), bias: plain(layer.bias!.grad!) };
    const positions = new GroupNorm(1, 8, { ...f64, statistics: "position" });
    expectSame({ y: plain(y), dx: plain(dx), ...gradients }, outcome(positions, x, dy));
  });

  test("scale and shift of the input leave the output as it is, when eps is 0", () => {
    const [x, dy] = [normal(shape), normal(shape)];
    const moved = x.mul(0.25).add(40);
    const make = [
      () => new BatchNorm2d(8, { ...f64, eps: 0 }),
      () => new GroupNorm(4, 8, { ...f64, eps: 0 }),
      () => new LayerNorm(shape.slice(1), { ...f64, eps: 0 }),
      () => new InstanceNorm2d(8, { ...f64, eps: 0 }),
    ];
    for (const layer of make) {
      const [a, b] = [outcome(layer(), x, dy), outcome(layer(), moved, dy)];
      // The gradient to the input scales the other way round.
      expectSame({ ...b, dx: b.dx!.map((v) => 0.25 * v) }, a, 1e-11);
    }
  });

  test("the moments of parts, merged, are those of the whole", () => {
    const x = normal([7, 4, 3], 5, 2);
    const view = (outer: number) => ({ batch: 1, outer, channels: 4, inner: 3, merge: 1 });
    const momentsOf = (t: Tensor): Moments[] => {
      const made = plain(columnMoments({ x: t }, { view: view(t.shape[0]!) }));
      const count = t.shape[0]! * 3;
      return Array.from({ length: 4 }, (_, c) => ({ count, mean: made[c]!, m2: made[4 + c]! * count }));
    };
    const parts = [x.narrow(0, 0, 2), x.narrow(0, 2, 4), x.narrow(0, 6, 1)].map(momentsOf);
    for (const [c, whole] of momentsOf(x).entries()) {
      const merged = parts.map((p) => p[c]!).reduce(mergeMoments);
      expect(merged.count).toBe(21);
      expect(merged.mean).toBeCloseTo(whole.mean, 13);
      expect(biasedVariance(merged)).toBeCloseTo(biasedVariance(whole), 12);
    }
  });
});
