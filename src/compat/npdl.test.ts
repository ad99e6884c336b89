import { describe, expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { type Tensor, tensor, zeros } from "../autograd/index.js";
import { DTypeError, OptionError, ShapeError, StateError } from "../base/errors.js";
import { manualSeed } from "../base/random.js";
import { Linear, Sequential } from "../nn/index.js";
import { npdl } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

function connected(outShape: (number | null)[], options?: npdl.BatchNormalOptions): npdl.BatchNormal {
  const layer = new npdl.BatchNormal(options);
  layer.connectTo({ outShape });
  return layer;
}

test("params and grads in the original's order; grads are those of the last backward", () => {
  const layer = connected([null, 4]);
  expect(layer.params).toEqual([layer.beta, layer.gamma]);
  expect(layer.grads).toEqual([null, null]);
  expect(Object.keys(layer.stateDict())).toEqual(["beta", "gamma", "running_mean", "running_var"]);
  const [x, dy] = [normal([5, 4]), normal([5, 4])];
  for (let i = 0; i < 2; i++) {
    layer.forward(x);
    layer.backward(dy);
    expect(relativeError(values(layer.dbeta), values(dy.sum([0])))).toBeLessThan(1e-15);
    expect(layer.grads).toEqual([layer.beta.grad, layer.gamma.grad]);
    expect(layer.grades).toEqual(layer.grads);
  }
});

test("parameters take the type of the first input, unrounded before it", () => {
  const layer = connected([null, 3], { gammaInit: () => [0.1, 0.2, 0.3] });
  layer.forward(normal([4, 3]));
  expect(layer.gamma.dtype).toBe("float64");
  expect(values(layer.gamma)).toEqual([0.1, 0.2, 0.3]);
  const single = connected([null, 3]);
  single.forward(normal([4, 3]).to("float32"));
  expect([single.gamma.dtype, single.runningVar.dtype]).toEqual(["float32", "float32"]);
  expect(() => single.forward(normal([4, 3]))).toThrow(DTypeError);
});

test("initialisers by name, in the spellings of the original and of here, and by function", () => {
  const spread: Record<string, number> = {
    uniform: 0.05,
    lecunUniform: Math.sqrt(3 / 15),
    glorotUniform: Math.sqrt(3 / 15),
    heUniform: Math.sqrt(6 / 15),
  };
  manualSeed(4);
  for (const [name, bound] of Object.entries(spread)) {
    const drawn = values(connected([null, 240], { betaInit: name }).beta).map(Math.abs);
    expect(Math.max(...drawn), name).toBeLessThanOrEqual(bound);
    expect(Math.max(...drawn), name).toBeGreaterThan(0.95 * bound);
  }
  const deviations = { normal: 0.01, glorotNormal: Math.sqrt(1 / 15), heNormal: Math.sqrt(2 / 15) };
  for (const [name, std] of Object.entries(deviations)) {
    const drawn = values(connected([null, 240], { gammaInit: name }).gamma);
    const found = Math.sqrt(drawn.reduce((s, v) => s + v * v, 0) / 240);
    expect(found / std, name).toBeGreaterThan(0.8);
    expect(found / std, name).toBeLessThan(1.2);
  }
  const unit = values(connected([null, 9], { gammaInit: "orthogonal" }).gamma);
  expect(unit.reduce((s, v) => s + v * v, 0)).toBeCloseTo(1, 12);
  for (const name of ["glorot_uniform", "GlorotUniform", "glorotUniform"]) {
    manualSeed(9);
    const first = values(connected([null, 5], { betaInit: "glorotUniform" }).beta);
    manualSeed(9);
    expect(values(connected([null, 5], { betaInit: name }).beta)).toEqual(first);
  }
  const shapes: unknown[] = [];
  const given = connected([null, 2, 3], {
    betaInit: (shape) => {
      shapes.push(shape);
      return new Float64Array([1, 2, 3]);
    },
    gammaInit: () => tensor([4, 5, 6]),
  });
  expect([shapes, values(given.beta), values(given.gamma)]).toEqual([[[3]], [1, 2, 3], [4, 5, 6]]);
});

test("evaluates by running statistics, by eval() or in the call", () => {
  const layer = connected([null, 2], { momentum: 0.75, epsilon: 0.5 });
  const x = normal([6, 2], 3, 2);
  layer.forward(x);
  const mean = values(x.mean([0])).map((v) => 0.25 * v);
  const variance = values(x.variance([0], { correction: 0 })).map((v) => 0.75 + 0.25 * v);
  expect(relativeError(values(layer.runningMean), mean)).toBeLessThan(1e-14);
  expect(relativeError(values(layer.runningVar), variance)).toBeLessThan(1e-14);
  const inCall = values(layer.forward(x, false));
  const want = values(x).map((v, i) => (v - mean[i % 2]!) / Math.sqrt(variance[i % 2]! + 0.5));
  expect(relativeError(inCall, want)).toBeLessThan(1e-14);
  expect(values(layer.eval().forward(x))).toEqual(inCall);
  expect(layer.forward(normal([1, 2])).shape).toEqual([1, 2]);
});

describe("axis", () => {
  const x = normal([3, 2, 4, 2], 1, 2);

  test("0 gives each feature statistics of its own, and parameters to the last axis", () => {
    const layer = connected([null, 2, 4, 2]);
    expect([layer.gamma.shape, layer.runningMean.shape]).toEqual([[2], [2, 4, 2]]);
    const y = layer.forward(x);
    for (const v of values(y.mean([0]))) expect(v).toBeCloseTo(0, 12);
    layer.backward(normal([3, 2, 4, 2]));
    expect(layer.dgamma!.shape).toEqual([2]);
  });

  test("another gives each of its indices statistics over all other axes", () => {
    for (const [axis, at] of [
      [1, 1],
      [2, 2],
      [-1, 3],
      [-2, 2],
    ] as const) {
      const layer = connected([null, 2, 4, 2], { axis });
      expect(layer.gamma.shape).toEqual([x.shape[at]]);
      for (const v of values(layer.forward(x).mean([0, 1, 2, 3].filter((a) => a !== at)))) expect(v).toBeCloseTo(0, 12);
    }
  });

  test("lengths that it does not need may be unknown", () => {
    expect(connected([null, null, 4], { axis: -1 }).gamma.shape).toEqual([4]);
    expect(() => connected([null, null, 4])).toThrow(ShapeError);
    expect(() => connected([null, null, 4], { axis: 1 })).toThrow(ShapeError);
  });
});

describe("asWritten", () => {
  test("the standard deviation stands for the variance, in training and evaluation, at any rank", () => {
    for (const shape of [
      [5, 3],
      [4, 2, 3],
      [3, 2, 2, 3],
    ]) {
      const layer = connected([null, ...shape.slice(1)], { asWritten: true, axis: 1, epsilon: 1e-3 });
      layer.beta.assign(normal([3]));
      layer.gamma.assign(normal([3]));
      const x = normal(shape, 2, 3);
      const std = x.variance([0], { correction: 0 }).sqrt();
      const want = x
        .sub(x.mean([0]))
        .div(std.add(1e-3).sqrt())
        .mul(layer.gamma.detach())
        .add(layer.beta.detach());
      expect(relativeError(values(layer.forward(x)), values(want))).toBeLessThan(1e-14);
      expect(relativeError(values(layer.eval().forward(x)), values(want))).toBeLessThan(1e-14);
      expect(Object.keys(layer.stateDict())).toEqual(["beta", "gamma"]);
    }
  });

  test("its backward is the original's, step by step", () => {
    const layer = connected([null, 3], { asWritten: true });
    layer.gamma.assign([2, -1, 0.5]);
    const [x, dy] = [normal([6, 3], 1, 2), normal([6, 3])];
    layer.forward(x);
    const dx = values(layer.backward(dy));
    const [d, g] = [x.dataSync(), dy.dataSync()];
    for (let c = 0; c < 3; c++) {
      const rows = [0, 1, 2, 3, 4, 5].map((n) => 3 * n + c);
      const mean = rows.reduce((s, i) => s + d[i]! / 6, 0);
      const xmu = rows.map((i) => d[i]! - mean);
      const std = Math.sqrt(xmu.reduce((s, v) => s + (v * v) / 6, 0));
      const root = Math.sqrt(std + 1e-6);
      const dxhat = rows.map((i) => g[i]! * [2, -1, 0.5][c]!);
      const divar = dxhat.reduce((s, v, n) => s + v * xmu[n]!, 0);
      const dvar = ((0.5 / root) * -divar) / (root * root);
      const dx1 = dxhat.map((v, n) => v / root + (2 * xmu[n]! * dvar) / 6);
      const sum = dx1.reduce((s, v) => s + v, 0);
      const want = dx1.map((v) => v - sum / 6);
      expect(
        relativeError(
          rows.map((i) => dx[i]!),
          want,
        ),
      ).toBeLessThan(1e-13);
    }
  });

  test("backward takes matrices alone", () => {
    const layer = connected([null, 2, 3], { asWritten: true });
    layer.forward(normal([4, 2, 3]));
    expect(() => layer.backward(normal([4, 2, 3]))).toThrow(/takes a matrix/);
  });

  test("a batch of one comes out as beta", () => {
    const layer = connected([null, 2], { asWritten: true, betaInit: () => [3, 4] });
    expect(layer.forward(normal([1, 2])).toArray()).toEqual([[3, 4]]);
  });
});

test("errors", () => {
  for (const layer of [new npdl.BatchNormal(), new npdl.BatchNormal({ asWritten: true })]) {
    expect(() => layer.forward(normal([2, 2]))).toThrow(StateError);
    expect(() => layer.backward(normal([2, 2]))).toThrow(StateError);
    expect(() => layer.params).toThrow(/Begin with connectTo/);
    for (const bad of [undefined, null, {}, { outShape: [4] }, { outShape: 4 }]) {
      expect(() => layer.connectTo(bad as never), JSON.stringify(bad)).toThrow(ShapeError);
    }
    layer.connectTo({ outShape: [null, 4] });
    expect(() => layer.forward([[1]] as never)).toThrow(DTypeError);
    expect(() => layer.forward(normal([3, 5]))).toThrow(ShapeError);
    expect(() => layer.forward(zeros([3, 4], { dtype: "int32" }))).toThrow(DTypeError);
    expect(() => layer.forward(normal([3, 4]), 1 as never)).toThrow(OptionError);
    layer.forward(normal([3, 4]));
    expect(() => layer.backward([1] as never)).toThrow(DTypeError);
    expect(() => layer.backward(normal([2, 4]))).toThrow(ShapeError);
  }
  expect(() => connected([null, 4], { axis: 2 })).toThrow(ShapeError);
  expect(() => connected([null, 4], { betaInit: () => [1, 2, 3] })).toThrow(ShapeError);
  expect(() => connected([null, 4], { betaInit: () => 5 as never })).toThrow(DTypeError);
  const bad = [
    { momentum: 2 },
    { epsilon: -1 },
    { axis: 0.5 },
    { asWritten: 1 },
    { gammaInit: 3 },
    { gamaInit: "one" },
  ];
  for (const options of bad) expect(() => new npdl.BatchNormal(options as never)).toThrow(OptionError);
  expect(() => new npdl.BatchNormal({ betaInit: "zeros" })).toThrow(/Did you mean "zero"\?/);
  expect(() => connected([null, 4]).forward(normal([1, 4]))).toThrow(ShapeError);
});

test("in a model gradients add up as anywhere", () => {
  const model = new Sequential(new Linear(3, 4, { dtype: "float64" }), connected([null, 4]));
  const [x, dy] = [normal([5, 3]), normal([5, 4])];
  for (let i = 0; i < 2; i++) model.forward(x).backward(dy);
  const beta = (model.at(1) as npdl.BatchNormal).beta;
  expect(relativeError(values(beta.grad), values(dy.sum([0]).mul(2)))).toBeLessThan(1e-14);
});
