import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { checkOps, normal } from "../../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { numberOfElements, type Shape } from "../../base/shape.js";
import { BatchNorm, BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm1d, LayerNorm } from "./index.js";

const f64 = { dtype: "float64" } as const;
const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

/** Means and sums of squared distances of x [N, C, S] over N and S, by plain loops. */
function channelMoments(x: Tensor): { n: number; mean: number[]; m2: number[] } {
  const [batch, channels, inner] = [x.shape[0]!, x.shape[1]!, numberOfElements(x.shape.slice(2))];
  const data = x.dataSync();
  const of = (c: number) =>
    Array.from(
      { length: batch * inner },
      (_, i) => data[(Math.floor(i / inner) * channels + c) * inner + (i % inner)]!,
    );
  const each = Array.from({ length: channels }, (_, c) => of(c));
  const mean = each.map((v) => v.reduce((a, b) => a + b, 0) / v.length);
  return { n: batch * inner, mean, m2: each.map((v, c) => v.reduce((s, e) => s + (e - mean[c]!) ** 2, 0)) };
}

describe("which variance", () => {
  const x = normal([5, 3, 7], 2, 3);
  const { n, mean, m2 } = channelMoments(x);

  for (const runningVariance of ["biased", "unbiased"] as const) {
    for (const normalizingVariance of ["biased", "unbiased"] as const) {
      test(`${normalizingVariance} normalizes, ${runningVariance} runs`, () => {
        const bn = new BatchNorm1d(3, { ...f64, normalizingVariance, runningVariance, momentum: 0.25, eps: 1e-2 });
        bn.weight!.assign([0.5, -2, 3]);
        bn.bias!.assign([1, 2, 3]);
        const y = bn.forward(x);
        const divisor = normalizingVariance === "biased" ? n : n - 1;
        const want = values(x).map((v, i) => {
          const c = Math.floor(i / 7) % 3;
          return ((v - mean[c]!) / Math.sqrt(m2[c]! / divisor + 1e-2)) * [0.5, -2, 3][c]! + [1, 2, 3][c]!;
        });
        expect(relativeError(values(y), want)).toBeLessThanOrEqual(1e-14);
        const running = m2.map((v) => 0.75 + (0.25 * v) / (runningVariance === "biased" ? n : n - 1));
        expect(relativeError(values(bn.runningVar), running)).toBeLessThanOrEqual(1e-14);
      });
    }
  }

  test("instance normalization divides by the same conventions, sample by sample", () => {
    const [a, b] = [new InstanceNorm1d(3, { ...f64, normalizingVariance: "unbiased" }), new InstanceNorm1d(3, f64)];
    // With eps 0 the two differ by the factor sqrt((n - 1) / n) alone.
    a.eps = 0;
    b.eps = 0;
    const ratio = values(a.forward(x)).map((v, i) => v / values(b.forward(x))[i]!);
    for (const r of ratio) expect(r).toBeCloseTo(Math.sqrt(6 / 7), 12);
  });

  test("float32 is as accurate as with the biased variance, at a mean of 10,000 deviations", () => {
    const far = normal([64, 3, 16], 1e4, 1);
    const run = (dtype: "float32" | "float64") => {
      const bn = new BatchNorm1d(3, { dtype, normalizingVariance: "unbiased" });
      const y = bn.forward(far.cast(dtype));
      const dx = bn.backward(far.cast(dtype).sub(1e4).square());
      return [y, dx, bn.weight!.grad!, bn.bias!.grad!].map(values);
    };
    const want = run("float64");
    for (const [i, got] of run("float32").entries()) {
      expect(relativeError(got, want[i]!), `${i}`).toBeLessThanOrEqual(2.5e-7);
    }
  });

  test("zero variance leaves the bias", () => {
    const bn = new BatchNorm1d(2, { normalizingVariance: "unbiased" });
    bn.bias!.assign([0.3, -0.7]);
    const y = bn.forward(tensor(new Float32Array(12).fill(5), { shape: [6, 2] }));
    expect(new Set(values(y))).toEqual(new Set([Math.fround(0.3), Math.fround(-0.7)]));
  });
});

checkOps("normalization by the unbiased variance", [
  {
    name: "batch norm",
    inputs: [normal([4, 3, 5])],
    apply: (x) => {
      const bn = new BatchNorm1d(3, {
        dtype: x!.dtype === "float64" ? "float64" : "float32",
        normalizingVariance: "unbiased",
      });
      const y = bn.forward(x!);
      bn.dispose();
      return y;
    },
  },
]);

describe("statistics for each feature", () => {
  test("are those of a flat input", () => {
    const shape: Shape = [6, 2, 3, 2];
    const [x, dy] = [normal(shape), normal(shape)];
    const features = new BatchNorm([2, 3, 2], f64);
    const flat = new BatchNorm1d(12, f64);
    for (const p of features.parameters()) p.assign(normal(p.shape));
    flat.weight!.assign(features.weight!.reshape([12]));
    flat.bias!.assign(features.bias!.reshape([12]));
    expect(values(features.forward(x))).toEqual(values(flat.forward(x.reshape([6, 12]))));
    expect(values(features.backward(dy))).toEqual(values(flat.backward(dy.reshape([6, 12]))));
    expect(features.weight!.grad!.shape).toEqual([2, 3, 2]);
    expect(values(features.weight!.grad)).toEqual(values(flat.weight!.grad));
    expect(features.runningVar!.shape).toEqual([2, 3, 2]);
    expect(values(features.runningVar)).toEqual(values(flat.runningVar));
    expect(values(features.eval().forward(x))).toEqual(values(flat.eval().forward(x.reshape([6, 12]))));
    expect(() => features.forward(normal([6, 3, 2, 2]))).toThrow(/made for an input \[N, 2, 3, 2\]/);
    expect(() => new BatchNorm1d([3, 0] as never)).toThrow(OptionError);
  });

  test("group normalization with an affine for each feature, over samples and over positions", () => {
    const [x, dy] = [normal([3, 4, 5]), normal([3, 4, 5])];
    const whole = new GroupNorm(1, [4, 5], f64);
    const layer = new LayerNorm([4, 5], f64);
    for (const p of whole.parameters()) p.assign(normal(p.shape));
    layer.loadStateDict(whole.stateDict());
    expect(relativeError(values(whole.forward(x)), values(layer.forward(x)))).toBeLessThanOrEqual(1e-14);
    expect(relativeError(values(whole.backward(dy)), values(layer.backward(dy)))).toBeLessThanOrEqual(1e-13);
    expect(relativeError(values(whole.weight!.grad), values(layer.weight!.grad))).toBeLessThanOrEqual(1e-13);

    // At each position a group of two channels is a row of two values.
    const positions = new GroupNorm(2, [4, 5], { ...f64, statistics: "position" });
    for (const p of positions.parameters()) p.assign(normal(p.shape));
    const rows = new LayerNorm(2, { ...f64, elementwiseAffine: false });
    const toRows = (t: Tensor) => t.reshape([3, 2, 2, 5]).permute([0, 1, 3, 2]);
    const xhat = rows.forward(toRows(x)).permute([0, 1, 3, 2]).reshape([3, 4, 5]);
    const want = xhat.mul(positions.weight!).add(positions.bias!);
    expect(relativeError(values(positions.forward(x)), values(want))).toBeLessThanOrEqual(1e-14);
    positions.backward(dy);
    expect(relativeError(values(positions.weight!.grad), values(dy.mul(xhat).sum([0])))).toBeLessThanOrEqual(1e-13);
    expect(() => new GroupNorm(2, 4, { statistics: "position", axis: -1 })).toThrow(/channels on axis 1; got axis -1/);
  });
});

test("parameter gradients are sums over the batch, or means; the gradient to the input is the same", () => {
  const [x, dy] = [normal([8, 3, 4]), normal([8, 3, 4])];
  for (const make of [
    (o: object) => new BatchNorm1d(3, { ...f64, ...o }),
    (o: object) => new GroupNorm(3, 3, { ...f64, ...o }),
    (o: object) => new InstanceNorm1d(3, { ...f64, affine: true, ...o }),
  ]) {
    const [sum, mean] = [make({}), make({ parameterGradients: "mean" })];
    for (const m of [sum, mean]) m.forward(x);
    expect(values(mean.backward(dy))).toEqual(values(sum.backward(dy)));
    for (const [i, p] of mean.parameters().entries()) {
      expect(relativeError(values(p.grad!.mul(8)), values(sum.parameters()[i]!.grad))).toBeLessThanOrEqual(1e-15);
    }
  }
});

test("parameter gradients of no samples are 0, as means too", () => {
  for (const layer of [
    new BatchNorm1d(3, { ...f64, parameterGradients: "mean" }).eval(),
    new GroupNorm(3, 3, { ...f64, parameterGradients: "mean" }),
    new InstanceNorm1d(3, { ...f64, affine: true, parameterGradients: "mean" }),
  ]) {
    layer
      .forward(normal([0, 3, 4]))
      .sum()
      .backward();
    expect(layer.parameters().map((p) => values(p.grad))).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  }
});

describe("in place", () => {
  const input = normal([2, 3, 4]).cast("float32");

  test("evaluation writes over its input, with the output and the gradients of the plain layer", () => {
    const [plain, inplace] = [new BatchNorm1d(3), new BatchNorm1d(3, { inplace: true })];
    plain.forward(normal([5, 3, 4]).cast("float32"));
    for (const p of plain.parameters()) p.assign(normal(p.shape));
    inplace.loadStateDict(plain.stateDict());
    const [x, dy] = [input.mul(1), normal([2, 3, 4]).cast("float32")];
    const want = plain.eval().forward(input);
    const y = inplace.eval().forward(x);
    expect(values(y)).toEqual(values(want));
    expect(values(x)).toEqual(values(want));
    expect(relativeError(values(inplace.backward(dy)), values(plain.backward(dy)))).toBeLessThanOrEqual(2.5e-7);
    // xhat is worked out from the output, which costs some bits where the bias is the larger part of it.
    expect(relativeError(values(inplace.weight!.grad), values(plain.weight!.grad))).toBeLessThanOrEqual(2e-6);
    expect(relativeError(values(inplace.bias!.grad), values(plain.bias!.grad))).toBeLessThanOrEqual(2.5e-7);
  });

  test("not in training, not without running statistics, not with an activation", () => {
    const kept = values(input);
    expect(() => new BatchNorm1d(3, { inplace: true }).forward(input)).toThrow(
      /inplace writes over its input.*eval\(\)/,
    );
    expect(values(input)).toEqual(kept);
    expect(() => new BatchNorm1d(3, { inplace: true, trackRunningStats: false })).toThrow(OptionError);
    expect(() => new BatchNorm1d(3, { inplace: true, activation: "relu" })).toThrow(/got activation "relu"/);
    expect(() => new BatchNorm1d(3, { inplace: 1 as never })).toThrow(/inplace must be true or false/);
  });
});

test("an unknown convention names those there are", () => {
  const make = (o: object) => new BatchNorm2d(4, o);
  expect(() => make({ normalizingVariance: "unbaised" })).toThrow(
    /BatchNorm2d: normalizingVariance must be "biased" or "unbiased"; got "unbaised".*Did you mean "unbiased"\?/,
  );
  expect(() => make({ runningVariance: true })).toThrow(OptionError);
  expect(() => make({ parameterGradients: "average" })).toThrow(/must be "sum" or "mean"/);
  expect(() => make({ momentum: 1.5 })).toThrow(/momentum must be a weight of the new value in \[0, 1\]/);
  expect(() => new GroupNorm(2, 4, { statistics: "sampel" as never })).toThrow(/Did you mean "sample"\?/);
  expect(() => new GroupNorm(3, [4, 2])).toThrow(ShapeError);
});

test("features may share weight and bias: affineShape broadcasts, and its gradients are summed back", () => {
  const [x, dy] = [normal([6, 3, 4], 1, 2), normal([6, 3, 4])];
  const shared = new BatchNorm([3, 4], { ...f64, affineShape: [4] });
  const full = new BatchNorm([3, 4], f64);
  const [w, b] = [normal([4]), normal([4])];
  shared.weight!.assign(w);
  shared.bias!.assign(b);
  full.weight!.assign(w.expand([3, 4]));
  full.bias!.assign(b.expand([3, 4]));
  expect(values(shared.forward(x))).toEqual(values(full.forward(x)));
  expect(values(shared.backward(dy))).toEqual(values(full.backward(dy)));
  for (const [i, p] of shared.parameters().entries()) {
    expect(relativeError(values(p.grad), values(full.parameters()[i]!.grad!.sum([0])))).toBeLessThanOrEqual(1e-15);
  }
  expect(shared.runningMean!.shape).toEqual([3, 4]);
  expect(() => new BatchNorm([3, 4], { affineShape: [3] })).toThrow(ShapeError);
  expect(() => new BatchNorm([3, 4], { affineShape: [2, 3, 4] })).toThrow(ShapeError);
});
