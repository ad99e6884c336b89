import { describe, expect, test } from "vitest";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { checkOps, normal, positive } from "../../../tests/conformance/op_harness.js";
import { grad, randn, type Tensor, tensor } from "../../autograd/index.js";
import { nearest } from "../../autograd/ops/nearest.js";
import { instanceNormBySample, sampleAffine } from "../../autograd/ops/sample_affine.js";
import { loopback } from "../../base/communicator.js";
import type { DType } from "../../base/dtype.js";
import { DTypeError, OptionError, ShapeError } from "../../base/errors.js";
import { Random } from "../../base/random.js";
import type { Shape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { Linear } from "../linear.js";
import type { Module } from "../module.js";
import * as F from "./functional.js";
import {
  AdaIN,
  AdaLN,
  AdaLNZero,
  BatchNorm2d,
  ConditionalBatchNorm,
  FiLM,
  InstanceNorm1d,
  SPADE,
  SyncBatchNorm,
} from "./index.js";

const random = new Random(31);
const draw = (shape: Shape, dtype: DType = "float32") => randn(shape, { dtype, random });
const values = (t: Tensor) => [...t.dataSync()];
const vector = (size: number) => (dtype: DType, shape: Shape) => [draw([shape[0]!, size], dtype)];
const classes = (n: number, of = 3) =>
  tensor(
    Array.from({ length: n }, (_, i) => (2 * i + 1) % of),
    { dtype: "int32" },
  );

normContract({
  name: "ConditionalBatchNorm",
  make: (o) => new ConditionalBatchNorm(4, 3, o),
  shape: [3, 4, 5],
  state: ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "embed.weight"],
  extra: (_dtype, shape) => [classes(shape[0]!)],
  wrong: [3, 6, 5],
  lone: { shape: [1, 4, 1], works: false },
  constant: "finite",
  spreads: [0, 2],
  sameInEval: false,
});

normContract({
  name: "FiLM",
  make: (o) => new FiLM(4, 3, o),
  shape: [2, 4, 5],
  state: ["fc.weight", "fc.bias"],
  extra: vector(3),
  bad: [{ axis: 0.5 }],
  wrong: [2, 6, 5],
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: [],
  sameInEval: true,
});

normContract({
  name: "AdaIN",
  make: (o) => new AdaIN(4, 3, o),
  shape: [2, 4, 5],
  state: ["fc.weight", "fc.bias"],
  extra: vector(3),
  wrong: [2, 6, 5],
  lone: { shape: [1, 4, 2], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

for (const [name, make] of [
  ["AdaLN", (o?: object) => new AdaLN(4, 3, o)],
  ["AdaLNZero", (o?: object) => new AdaLNZero(4, 3, o)],
] as const) {
  normContract({
    name,
    make,
    shape: [2, 3, 4],
    state: ["linear.weight", "linear.bias"],
    extra: vector(3),
    wrong: [2, 3, 6],
    lone: { shape: [1, 4], works: true },
    constant: "finite",
    spreads: [2],
    sameInEval: true,
  });
}

normContract({
  name: "SPADE",
  make: (o) => new SPADE(4, 2, { hidden: 3, ...o }),
  shape: [2, 4, 4, 2],
  state: [
    ...["running_mean", "running_var", "num_batches_tracked"].map((n) => `param_free_norm.${n}`),
    ...["mlp_shared.0", "mlp_gamma", "mlp_beta"].flatMap((n) => [`${n}.weight`, `${n}.bias`]),
  ],
  extra: (dtype, shape) => [draw([shape[0]!, 2, 2, 3], dtype)],
  wrong: [2, 6, 4, 2],
  lone: { shape: [1, 4, 1, 1], works: false },
  constant: "finite",
  spreads: [0, 2, 3],
  sameInEval: false,
});

checkOps("affine by sample", [
  ...(
    [
      [[3, 5], 1],
      [[3, 5, 7], 1],
      [[2, 3, 3, 5], 1],
      [[2, 3, 5, 4], -1],
    ] as const
  ).map(([shape, axis]) => {
    const channels = shape.at(axis)!;
    return {
      name: `[${shape}], axis ${axis}`,
      inputs: [normal(shape), normal([shape[0], channels]), normal([shape[0], channels])],
      apply: (x?: Tensor, gamma?: Tensor, beta?: Tensor) =>
        sampleAffine({ x: x!, gamma: gamma!, beta: beta! }, axis, "test"),
    };
  }),
]);

checkOps("instance normalization by sample", [
  ...(
    [
      [[3, 5, 7], 1],
      [[2, 3, 5, 4], -1],
    ] as const
  ).map(([shape, axis]) => {
    const channels = shape.at(axis)!;
    return {
      name: `[${shape}], axis ${axis}`,
      inputs: [normal(shape, 1), normal([shape[0], channels]), normal([shape[0], channels])],
      apply: (x?: Tensor, gamma?: Tensor, beta?: Tensor) =>
        instanceNormBySample({ x: x!, gamma: gamma!, beta: beta! }, axis, 1e-3, "test"),
    };
  }),
]);

checkOps(
  "adaIN",
  [
    { name: "[2, 3, 7] after [2, 3, 5]", content: [2, 3, 7], style: [2, 3, 5] },
    { name: "[2, 3, 3, 3] after [2, 3, 4]", content: [2, 3, 3, 3], style: [2, 3, 4] },
  ].map(({ name, content, style }) => ({
    name,
    inputs: [normal(content), positive(style)],
    apply: (x?: Tensor, s?: Tensor) => F.adaIN(x!, s!, { eps: 1e-3 }),
  })),
);

checkOps(
  "nearest",
  [
    { from: [2, 3, 4], to: [8] },
    { from: [1, 2, 4, 6], to: [2, 2] },
    { from: [2, 1, 3, 5], to: [7, 4] },
    { from: [1, 2, 2, 3, 2], to: [3, 3, 1] },
  ].map(({ from, to }) => ({
    name: `[${from}] to [${to}]`,
    inputs: [normal(from)],
    apply: (x?: Tensor) => nearest(x!, to),
  })),
);

describe("nearest", () => {
  test("takes the element at floor(i in / out)", () => {
    const x = tensor([[[10, 20, 30]]]);
    expect(values(nearest(x, [6]))).toEqual([10, 10, 20, 20, 30, 30]);
    expect(values(nearest(x, [5]))).toEqual([10, 10, 20, 20, 30]);
    expect(values(nearest(x, [2]))).toEqual([10, 20]);
    expect(nearest(x, [3])).toBe(x);
    expect(() => nearest(x, [0])).toThrow(ShapeError);
    expect(() => nearest(x, [2, 2])).toThrow(/\[1, 1, 3\] to \[2, 2\]/);
  });
});

/** Gradients to x, the condition where it has one, and all parameters. */
function checkLayer(layer: Module, inputs: readonly Tensor[], fixed: readonly unknown[] = []): void {
  for (const p of layer.parameters()) p.assign(values(draw(p.shape)).map((v) => 0.5 * v));
  const parameters = layer.parameters();
  const f = (...all: Tensor[]) => {
    for (const [i, p] of parameters.entries()) p.assign(all[inputs.length + i]!);
    return layer.forward(...all.slice(0, inputs.length), ...fixed);
  };
  // What the layer learns is checked through its own tensors: the analytic gradient is taken from them.
  const found = scope(() => {
    const leaves = inputs.map((t) => {
      const leaf = t.detach();
      leaf.requiresGrad = true;
      return leaf;
    });
    const y = f(...leaves, ...parameters.map((p) => p.detach()));
    const w = draw(y.shape, "float64");
    const slopes = grad(y, [...leaves, ...parameters], { gradOutput: w }).map(values);
    return { weights: values(w), slopes };
  });
  for (const [k, t] of [...inputs, ...parameters].entries()) {
    const at = values(t);
    for (const i of at.keys()) {
      const value = (v: number) =>
        scope(() => {
          const moved = [...inputs, ...parameters].map((u, j) =>
            tensor(Float64Array.from(j === k ? at.map((a, e) => (e === i ? v : a)) : values(u)), { shape: u.shape }),
          );
          const before = parameters.map(values);
          const y = values(f(...moved));
          for (const [j, p] of parameters.entries()) p.assign(before[j]!);
          return y.reduce((sum, a, e) => sum + a * found.weights[e]!, 0);
        });
      const numeric = (value(at[i]! + 1e-5) - value(at[i]! - 1e-5)) / 2e-5;
      expect(Math.abs(found.slopes[k]![i]! - numeric) / Math.max(1, Math.abs(numeric)), `${k}[${i}]`).toBeLessThan(
        1e-7,
      );
    }
  }
}

describe("gradients of the conditional layers", () => {
  const o = { dtype: "float64" as const, eps: 1e-3 };
  const x = (...shape: number[]) => draw(shape, "float64");

  test("ConditionalBatchNorm", () => {
    checkLayer(new ConditionalBatchNorm(3, 3, o), [x(4, 3, 5)], [classes(4)]);
    checkLayer(new ConditionalBatchNorm(3, 2, { ...o, condition: "vector" }), [x(4, 3), x(4, 2)]);
    checkLayer(new ConditionalBatchNorm(3, 2, { ...o, condition: "vector", axis: -1 }), [x(2, 2, 3), x(2, 2)]);
  });

  test("FiLM", () => {
    checkLayer(new FiLM(3, 2, { dtype: "float64" }), [x(2, 3, 5), x(2, 2)]);
  });

  test("AdaIN", () => {
    checkLayer(new AdaIN(3, 2, o), [x(2, 3, 5), x(2, 2)]);
  });

  test("AdaLN and AdaLNZero", () => {
    checkLayer(new AdaLN(5, 2, o), [x(2, 3, 5), x(2, 2)]);
    checkLayer(new AdaLN([2, 3], 2, { ...o, silu: false }), [x(2, 2, 3), x(2, 2)]);
    checkLayer(new AdaLNZero(5, 2, o), [x(2, 3, 5), x(2, 2)], [(y: Tensor) => y.square()]);
  });

  test("SPADE", () => {
    const spade = new SPADE(2, 2, { ...o, hidden: 3, base: "instance" });
    checkLayer(spade, [x(2, 2, 3, 2), x(2, 2, 2, 2)]);
  });
});

describe("what the conditional layers say", () => {
  test("ConditionalBatchNorm begins as batch normalization, for every class", () => {
    const layer = new ConditionalBatchNorm(3, 4);
    const plain = new BatchNorm2d(3, { affine: false });
    const x = draw([2, 3, 2, 2]);
    expect(values(layer.forward(x, classes(2)))).toEqual(values(plain.forward(x)));
    expect(values(layer.bn.runningVar!)).toEqual(values(plain.runningVar!));
  });

  test("each sample has the gamma and beta of its own class", () => {
    const layer = new ConditionalBatchNorm(1, 2).eval();
    layer.embed!.weight.assign([2, 5, -3, 7]);
    const y = layer.forward(tensor([[1], [1]]), tensor([1, 0], { dtype: "int32" }));
    const rho = 1 / Math.sqrt(1 + 1e-5);
    expect(y.toArray()).toEqual([[Math.fround(7 - 3 * Math.fround(rho))], [Math.fround(5 + 2 * Math.fround(rho))]]);
  });

  test("a class outside the range, of another type or number", () => {
    const layer = new ConditionalBatchNorm(3, 4);
    const x = draw([2, 3, 5]);
    const of = (...n: number[]) => tensor(n, { dtype: "int32" });
    expect(() => layer.forward(x, of(1, 4))).toThrow(/4 classes takes class numbers from 0 to 3; got 4 for sample 1/);
    expect(() => layer.forward(x, of(-1, 0))).toThrow(ShapeError);
    expect(() => layer.forward(x, of(1, 2, 3))).toThrow(/one class number for each sample.*shape \[2\]; got \[3\]/);
    expect(() => layer.forward(x, tensor([1, 2]))).toThrow(DTypeError);
    expect(() => layer.forward(x, [1, 2] as unknown as Tensor)).toThrow(/takes a condition behind x; got an array/);
    expect(() => new ConditionalBatchNorm(3, 0)).toThrow(/numClasses must be a whole number/);
    expect(() => new ConditionalBatchNorm(3, 2, { condition: "label" as "class" })).toThrow(OptionError);
    expect(() => new ConditionalBatchNorm(3, 2, { affine: true } as object)).toThrow(OptionError);
  });

  test("a condition of the wrong size says which size there is", () => {
    for (const layer of [
      new ConditionalBatchNorm(4, 3, { condition: "vector" }),
      new FiLM(4, 3),
      new AdaIN(4, 3),
      new AdaLN(4, 3),
      new AdaLNZero(4, 3),
    ]) {
      const x = draw([2, 4, 4]);
      expect(() => layer.forward(x, draw([2, 5]))).toThrow(/a condition \[2, 3\].*got \[2, 5\].*conditionSize 5/);
      expect(() => layer.forward(x, draw([3, 3]))).toThrow(ShapeError);
      expect(() => layer.forward(x, draw([3]))).toThrow(ShapeError);
      expect(() => layer.forward(x, undefined as unknown as Tensor)).toThrow(DTypeError);
    }
  });

  test("FiLM with gamma and beta given", () => {
    const y = F.film(
      tensor([
        [
          [1, 2],
          [3, 4],
        ],
      ]),
      tensor([[2, -1]]),
      tensor([[10, 0.5]]),
    );
    expect(values(y)).toEqual([12, 14, -2.5, -3.5]);
    const last = F.film(
      tensor([
        [
          [1, 2],
          [3, 4],
        ],
      ]),
      tensor([[2, -1]]),
      tensor([[10, 0.5]]),
      { axis: -1 },
    );
    expect(values(last)).toEqual([12, -1.5, 16, -3.5]);
    expect(() => F.film(draw([2, 3, 4]), draw([2, 4]), draw([2, 3]))).toThrow(/gamma of shape \[2, 3\].*got \[2, 4\]/);
    expect(() => F.film(draw([2, 3]), draw([2, 3]), draw([2, 3], "float64"))).toThrow(DTypeError);
    expect(() => F.film(draw([2, 3]), draw([2, 3]), draw([2, 3]), { axis: 0 })).toThrow(/axis 0 is the batch/);
  });

  test("adaIN gives the style's statistics", () => {
    const style = draw([2, 3, 11], "float64").mul(3).add(5);
    const y = F.adaIN(draw([2, 3, 4, 4], "float64"), style, { eps: 0 });
    const [a, b] = [y.reshape([2, 3, 16]), style];
    const close = (s: Tensor, t: Tensor) => {
      for (const [i, v] of values(s).entries()) expect(v).toBeCloseTo(values(t)[i]!, 12);
    };
    close(a.mean(2), b.mean(2));
    close(a.variance(2, { correction: 0 }), b.variance(2, { correction: 0 }));
    expect(() => F.adaIN(draw([2, 3, 4]), draw([2, 4, 4]))).toThrow(/same N and C.*\[2, 3, 4\] and \[2, 4, 4\]/);
    expect(() => F.adaIN(draw([2, 3, 4]), draw([2, 3, 4], "float64"))).toThrow(DTypeError);
    expect(() => F.adaIN(draw([2, 3, 1]), draw([2, 3, 4]))).toThrow(/more than one value for each sample/);
    expect(() => new AdaIN(3, 2).forward(draw([2, 3, 1]), draw([2, 2]))).toThrow(ShapeError);
  });

  test("AdaLNZero begins as the identity, whatever the body", () => {
    const layer = new AdaLNZero(4, 3);
    const body = new Linear(4, 4);
    const [x, c] = [draw([2, 3, 4]), draw([2, 3])];
    expect(values(layer.forward(x, c, body))).toEqual(values(x));
    layer.linear.bias!.assign(Float32Array.from({ length: 12 }, (_, i) => (i < 8 ? 0 : 1)));
    const { y, gate } = layer.modulate(x, c);
    expect(gate.shape).toEqual([2, 1, 4]);
    expect(values(layer.forward(x, c, body))).toEqual(values(x.add(body.forward(y))));
    expect(Object.keys(layer.stateDict())).toEqual(["linear.weight", "linear.bias"]);
    expect(() => layer.forward(draw([4]), c)).toThrow(ShapeError);
  });

  test("SPADE: its options and its map", () => {
    expect(() => new SPADE(4, 2, { kernelSize: 2 })).toThrow(/kernelSize must be odd/);
    expect(() => new SPADE(4, 2, { base: "layer" as "batch" })).toThrow(OptionError);
    const layer = new SPADE(4, 2, { hidden: 3 });
    const x = draw([2, 4, 4, 4]);
    expect(() => layer.forward(x, draw([2, 3, 2, 2]))).toThrow(/a map \[2, 2, h, w\].*got \[2, 3, 2, 2\].*one-hot/);
    expect(() => layer.forward(x, undefined as unknown as Tensor)).toThrow(DTypeError);
    expect(() => layer.forward(draw([2, 4, 4]), draw([2, 2, 2, 2]))).toThrow(/SPADE takes an input \[N, C, H, W\]/);
    expect(new SPADE(4, 2, { base: "sync", communicator: loopback }).paramFreeNorm).toBeInstanceOf(SyncBatchNorm);
    expect(() => new SPADE(4, 2, { communicator: loopback })).toThrow(/a communicator with base sync; got base batch/);
    const own = new InstanceNorm1d(4);
    expect(new SPADE(4, 2, { base: own }).paramFreeNorm).toBe(own);
    expect(layer.mlpShared.at(0)!.parameters()[0]!.shape).toEqual([3, 2, 3, 3]);
  });
});
