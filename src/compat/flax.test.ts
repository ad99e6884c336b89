import { expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import type { Tensor } from "../autograd/index.js";
import { DTypeError, OptionError, ShapeError } from "../base/errors.js";
import { flax, keras } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const { BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm } = flax;

test("defaults are Flax's", () => {
  const bn = new BatchNorm();
  expect([bn.useRunningAverage, bn.axis, bn.momentum, bn.epsilon, bn.useBias, bn.useScale]).toEqual([
    ...[null, -1, 0.99, 1e-5, true, true],
  ]);
  expect([new LayerNorm().epsilon, new GroupNorm().epsilon, new RMSNorm().epsilon]).toEqual([1e-6, 1e-6, 1e-6]);
  expect([new GroupNorm().numGroups, new GroupNorm().groupSize]).toEqual([32, null]);
});

test("variables stand in Flax's collections, under its names", () => {
  const bn = new BatchNorm();
  bn.forward(normal([4, 3]));
  const { params, batchStats } = bn.variables;
  expect([Object.keys(params), Object.keys(batchStats)]).toEqual([
    ["scale", "bias"],
    ["mean", "var"],
  ]);
  expect([params.scale, batchStats.var]).toEqual([bn.scale, bn.var]);
  const rms = new RMSNorm();
  rms.build([null, 3]);
  expect(Object.keys(rms.stateDict())).toEqual(["scale"]);
});

test("useRunningAverage in the constructor, in the call, or by train() and eval(); said once", () => {
  const x = normal([6, 3], 2, 3);
  const bn = new BatchNorm({ momentum: 0.5 });
  const trained = values(bn.forward(x));
  expect(values(new BatchNorm({ useRunningAverage: false }).eval().forward(x))).toEqual(trained);
  expect(values(new BatchNorm().eval().forward(x, { useRunningAverage: false }))).toEqual(trained);
  const evaluated = values(bn.eval().forward(x));
  expect(values(bn.train().forward(x, { useRunningAverage: true }))).toEqual(evaluated);
  const variance = values(x.variance([0], { correction: 0 })).map((v) => 0.5 + 0.5 * v);
  expect(relativeError(values(bn.var), variance)).toBeLessThan(1e-14);
  const still = new BatchNorm({ useRunningAverage: true });
  still.forward(x);
  expect(values(still.mean)).toEqual([0, 0, 0]);
  expect(() => still.forward(x, { useRunningAverage: true })).toThrow(/said once/);
});

test("a mask counts steps as Keras's does", () => {
  const mask = [
    [true, true, false],
    [true, false, false],
  ];
  const x = normal([2, 3, 4]);
  const want = new keras.BatchNormalization({ epsilon: 1e-5 }).call(x, { training: true, mask });
  expect(values(new BatchNorm().forward(x, { mask }))).toEqual(values(want));
});

test("useBias, useScale and initialisers", () => {
  const ln = new LayerNorm({ useBias: false, scaleInit: () => [2, 3] });
  ln.build([null, 2]);
  expect([ln.bias, values(ln.scale)]).toEqual([null, [2, 3]]);
  const bn = new BatchNorm({ useScale: false, biasInit: "ones" });
  bn.build([null, 2]);
  expect([bn.scale, values(bn.bias)]).toEqual([null, [1, 1]]);
});

test("errors", () => {
  expect(() => new BatchNorm({ useRunningAverage: 1 as never })).toThrow(OptionError);
  expect(() => new BatchNorm().forward(normal([2, 2]), { useRunningAverage: "yes" as never })).toThrow(OptionError);
  expect(() => new GroupNorm({ groupSize: 2 })).toThrow(/numGroups: null/);
  expect(() => new GroupNorm({ numGroups: null })).toThrow(OptionError);
  expect(() => new GroupNorm({ numGroups: null, groupSize: 4 }).forward(normal([2, 6]))).toThrow(OptionError);
  expect(() => new GroupNorm().forward(normal([2, 6]))).toThrow(ShapeError);
  expect(() => new RMSNorm({ useBias: true } as never)).toThrow(OptionError);
  expect(() => new InstanceNorm({ axis: 1 } as never)).toThrow(OptionError);
  expect(() => new LayerNorm({ reductionAxes: 0.5 })).toThrow(OptionError);
  expect(() => new LayerNorm({ reductionAxes: 5 }).forward(normal([2, 6]))).toThrow(ShapeError);
  for (const Layer of [BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm]) {
    expect(() => new Layer().forward([1] as never)).toThrow(DTypeError);
  }
});
