import { describe, expect, test } from "vitest";
import { relativeError } from "../../tests/conformance/harness.js";
import { normal } from "../../tests/conformance/op_harness.js";
import { gradCheck } from "../autograd/grad_check.js";
import { type Tensor, tensor, zeros } from "../autograd/index.js";
import { DTypeError, FormatError, OptionError, ShapeError, StateError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { heap } from "../memory/heap.js";
import { scope } from "../memory/scope.js";
import { Linear, Sequential } from "../nn/index.js";
import { keras } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const { BatchNormalization, GroupNormalization, LayerNormalization, RMSNormalization, UnitNormalization } = keras;
const training = { training: true } as const;

test("defaults are Keras's", () => {
  const bn = new BatchNormalization();
  expect([bn.axis, bn.momentum, bn.epsilon, bn.center, bn.scale, bn.trainable]).toEqual([
    ...[-1, 0.99, 1e-3, true, true, true],
  ]);
  const ln = new LayerNormalization();
  expect([ln.axis, ln.epsilon, ln.center, ln.scale]).toEqual([-1, 1e-3, true, true]);
  const gn = new GroupNormalization();
  expect([gn.groups, gn.axis, gn.epsilon]).toEqual([32, -1, 1e-3]);
  expect([new RMSNormalization().epsilon, new UnitNormalization().axis]).toEqual([1e-6, -1]);
});

describe("building", () => {
  test("by the first call, in its type, or by build", () => {
    const bn = new BatchNormalization();
    expect([bn.built, bn.parameters()]).toEqual([false, []]);
    expect(() => bn.backward(normal([2, 3]))).toThrow(StateError);
    bn.call(normal([4, 3]));
    expect([bn.built, bn.gamma!.dtype, bn.gamma!.shape]).toEqual([true, "float64", [3]]);
    const built = new BatchNormalization({ axis: 1 });
    built.build([null, 5, null, null]);
    expect(built.gamma!.shape).toEqual([5]);
    built.call(zeros([2, 5, 1, 1]));
    expect([built.gamma!.dtype, built.movingMean.dtype]).toEqual(["float32", "float32"]);
    expect(Object.keys(built.stateDict())).toEqual(["gamma", "beta", "moving_mean", "moving_variance"]);
    const typed = new LayerNormalization({ dtype: "float64", axis: [1, 2] });
    typed.build([null, 2, 3]);
    expect([typed.gamma!.shape, typed.gamma!.dtype]).toEqual([[2, 3], "float64"]);
  });

  test("without center or scale one of them is missing, in the state too", () => {
    const bn = new BatchNormalization({ center: false });
    const ln = new LayerNormalization({ scale: false });
    const gn = new GroupNormalization({ groups: 1, scale: false, center: false });
    for (const layer of [bn, ln, gn]) layer.call(normal([4, 3]), training);
    expect([bn.beta, ln.gamma, gn.gamma, gn.beta]).toEqual([null, null, null, null]);
    expect(Object.keys(bn.stateDict())).toEqual(["gamma", "moving_mean", "moving_variance"]);
    expect([ln.parameters().length, gn.parameters().length]).toEqual([1, 0]);
    bn.gamma!.assign([2, 2, 2]);
    const x = normal([4, 3]);
    const free = new BatchNormalization({ center: false, scale: false });
    const [with2, without] = [bn.call(x, training), free.call(x, training)];
    expect(relativeError(values(with2), values(without.mul(2)))).toBeLessThan(1e-15);
    expect(() => {
      (bn as { beta: unknown }).beta = [1, 2, 3];
    }).toThrow(StateError);
  });

  test("initialisers by name or function; weights in Keras's order", () => {
    const bn = new BatchNormalization({
      betaInitializer: "ones",
      gammaInitializer: (shape) => Array.from({ length: shape[0]! }, (_, i) => i + 2),
      movingMeanInitializer: "Ones",
      movingVarianceInitializer: () => new Float64Array([4, 5]),
    });
    bn.build([null, 2]);
    expect(bn.getWeights().map((v) => [...v])).toEqual([
      [2, 3],
      [1, 1],
      [1, 1],
      [4, 5],
    ]);
    const gains = [
      [5, 6],
      [7, 8],
      [9, 1],
      [2, 3],
    ];
    bn.setWeights(gains);
    expect([bn.gamma, bn.beta, bn.movingMean, bn.movingVariance].map(values)).toEqual(gains);
    expect(() => bn.setWeights(gains.slice(1))).toThrow(ShapeError);
  });
});

describe("modes of BatchNormalization", () => {
  const x = normal([6, 3], 2, 3);

  test("evaluates unless told to train, by the option or by train()", () => {
    const bn = new BatchNormalization();
    const evaluated = values(bn.call(x));
    expect(relativeError(evaluated, values(x.div(Math.sqrt(1.001))))).toBeLessThan(1e-14);
    const trained = values(bn.call(x, training));
    expect(relativeError(values(bn.movingMean), values(x.mean([0]).mul(0.01)))).toBeLessThan(1e-13);
    expect(values(new BatchNormalization().train().forward(x))).toEqual(trained);
    expect(bn.call(normal([1, 3])).shape).toEqual([1, 3]);
    expect(() => bn.call(normal([1, 3]), training)).toThrow(ShapeError);
  });

  test("trainable: false evaluates in training and learns nothing", () => {
    const bn = new BatchNormalization({ trainable: false });
    const evaluated = values(bn.call(x));
    expect(values(bn.call(x, training))).toEqual(evaluated);
    expect(bn.parameters().map((p) => p.requiresGrad)).toEqual([false, false]);
    bn.trainable = true;
    expect(bn.parameters().map((p) => p.requiresGrad)).toEqual([true, true]);
    expect(values(bn.call(x, training))).not.toEqual(evaluated);
  });
});

describe("mask", () => {
  const mask = [
    [1, 1, 0],
    [1, 0, 0],
    [0, 0, 0],
    [1, 1, 1],
  ];
  const valid = mask.flatMap((row, n) => row.flatMap((v, l) => (v ? [3 * n + l] : [])));

  test("statistics are those of the valid steps; padded ones are normalized by them", () => {
    const bn = new BatchNormalization({ momentum: 0.75 });
    const x = normal([4, 3, 2], 1, 2);
    const y = values(bn.call(x, { training: true, mask }));
    const data = x.dataSync();
    for (let c = 0; c < 2; c++) {
      const column = valid.map((i) => data[2 * i + c]!);
      const mean = column.reduce((s, v) => s + v / 6, 0);
      const variance = column.reduce((s, v) => s + (v - mean) ** 2 / 6, 0);
      const want = Array.from({ length: 12 }, (_, i) => (data[2 * i + c]! - mean) / Math.sqrt(variance + 1e-3));
      expect(
        relativeError(
          want.map((_, i) => y[2 * i + c]!),
          want,
        ),
      ).toBeLessThan(1e-14);
      expect(values(bn.movingMean)[c]).toBeCloseTo(0.25 * mean, 13);
      expect(values(bn.movingVariance)[c]).toBeCloseTo(0.75 + 0.25 * variance, 13);
    }
    const flags = tensor(mask, { dtype: "int32" });
    expect(values(new BatchNormalization().call(x, { training: true, mask: flags }))).toEqual(y);
    const evaluated = values(bn.call(x));
    expect(values(bn.call(x, { mask }))).toEqual(evaluated);
  });

  test("gradients go through the statistics", () => {
    const run = (x: Tensor, gamma: Tensor, beta: Tensor) => {
      const bn = new BatchNormalization({ gammaInitializer: () => gamma, betaInitializer: () => beta });
      return bn.call(x, { training: true, mask });
    };
    const fixed = [normal([2]), normal([2])] as const;
    const { errors } = gradCheck((x) => run(x, ...fixed), [normal([4, 3, 2], 1, 2)], new Random(4));
    expect(Math.max(...errors)).toBeLessThan(1e-8);
    const bn = new BatchNormalization();
    const [x, dy] = [normal([4, 3, 2]), normal([4, 3, 2])];
    const y = bn.call(x, { training: true, mask });
    bn.backward(dy);
    expect(relativeError(values(bn.beta!.grad), values(dy.sum([0, 1])))).toBeLessThan(1e-14);
    expect(relativeError(values(bn.gamma!.grad), values(dy.mul(y.detach()).sum([0, 1])))).toBeLessThan(1e-14);
  });

  test("of another shape, or with nothing valid", () => {
    const bn = new BatchNormalization();
    const x = normal([4, 3, 2]);
    expect(() => bn.call(x, { training: true, mask: [[1, 1]] })).toThrow(ShapeError);
    expect(() => bn.call(x, { training: true, mask: mask.map((row) => row.map(() => 0)) })).toThrow(ShapeError);
  });
});

test("unit vectors take Keras's smallest square sum", () => {
  const y = new UnitNormalization().call(
    tensor(
      [
        [3e-7, 4e-7],
        [3, 4],
      ],
      { dtype: "float64" },
    ),
  );
  expect(relativeError(values(y), [0.3, 0.4, 0.6, 0.8])).toBeLessThan(1e-14);
});

test("errors", () => {
  const bad: [new (o: never) => unknown, object][] = [
    [BatchNormalization, { momentum: 1.5 }],
    [BatchNormalization, { axis: [1] }],
    [BatchNormalization, { epsilon: -1 }],
    [BatchNormalization, { center: 1 }],
    [BatchNormalization, { betaInitializer: "zero" }],
    [LayerNormalization, { axis: "last" }],
    [LayerNormalization, { axis: [] }],
    [GroupNormalization, { groups: 0 }],
    [GroupNormalization, { groups: 1.5 }],
    [UnitNormalization, { order: 1 }],
  ];
  for (const [Layer, options] of bad)
    expect(() => new Layer(options as never), JSON.stringify(options)).toThrow(OptionError);
  expect(() => new GroupNormalization().call(normal([2, 6]))).toThrow(ShapeError);
  expect(() => new BatchNormalization({ axis: 3 }).call(normal([2, 6]))).toThrow(ShapeError);
  expect(() => new BatchNormalization().build([null, null])).toThrow(/must know the length of axis 1/);
  expect(() => new BatchNormalization().build(4 as never)).toThrow(ShapeError);
  expect(() => new BatchNormalization().call([[1]] as never)).toThrow(DTypeError);
  expect(() => new LayerNormalization().call(5 as never)).toThrow(DTypeError);
  expect(() => new BatchNormalization().call(zeros([2, 2], { dtype: "int32" }))).toThrow(DTypeError);
  expect(() => new BatchNormalization().call(normal([2, 2]), { training: 1 as never })).toThrow(OptionError);
  expect(() => new LayerNormalization().call(normal([2, 2]), { trainng: true } as never)).toThrow(
    /Did you mean "training"\?/,
  );
  const bn = new BatchNormalization();
  bn.build([null, 1]);
  const moved = { ...bn.stateDict(), moving_variance: { shape: [1], data: [-1] } };
  expect(() => bn.loadStateDict(moved)).toThrow(FormatError);
});

test("in a model: train(), eval() and the state", () => {
  const make = () => {
    const model = new Sequential(new Linear(3, 4, { dtype: "float64" }), new BatchNormalization());
    model.eval().forward(normal([2, 3]));
    return model;
  };
  const model = make().train();
  const x = normal([5, 3]);
  model.forward(x);
  const other = make();
  other.loadStateDict(model.stateDict());
  expect(values(other.eval().forward(x))).toEqual(values(model.eval().forward(x)));
  expect(values(other.forward(x))).not.toEqual(values(model.train().forward(x)));
});

test("a layer built inside a scope lives on, and steps leave the heap as they found it", () => {
  const bn = new BatchNormalization();
  const step = () =>
    scope(() => {
      bn.zeroGrad();
      bn.call(normal([4, 3, 2]), {
        training: true,
        mask: [
          [1, 1, 0],
          [1, 0, 0],
          [1, 1, 1],
          [0, 0, 1],
        ],
      });
      bn.backward(normal([4, 3, 2]));
    });
  step();
  const before = heap.stats.liveBytes;
  for (let i = 0; i < 10; i++) step();
  expect(heap.stats.liveBytes).toBeLessThanOrEqual(before);
  expect(bn.gamma!.disposed).toBe(false);
  bn.dispose();
});
