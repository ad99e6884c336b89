import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { BatchNormalization, LayerNormalization, useKernels } from "../../src/tfjs/index.js";
import { byHand, draw, error, type Operands, placesOf } from "./by_hand.js";
import { start } from "./setup.js";

afterEach(() => void useKernels(true));

const channels = (shape: number[], axis: number) =>
  placesOf(
    shape,
    (i) => i[axis],
    (i) => i[axis]!,
  );

const numbers = (t: tf.Tensor | tf.Tensor[]): number[] => [...(t as tf.Tensor).dataSync()];

/** A training step of a layer: y, and the moving statistics after it. */
function train(layer: tfl.layers.Layer, x: tf.Tensor, kwargs = {}) {
  const y = numbers(layer.apply(x, { training: true, ...kwargs }) as tf.Tensor);
  const [mean, variance] = layer.getWeights().slice(-2).map(numbers);
  return { y, mean: mean!, variance: variance! };
}

const moved = (from: number, momentum: number, batch: Float64Array) =>
  batch.map((v) => momentum * from + (1 - momentum) * v);

describe.each([
  ["cpu", true],
  ["wasm", true],
  ["cpu", false],
] as const)("BatchNormalization on the %s backend, kernels %s", (backend, kernels) => {
  beforeAll(() => start(backend));

  test.each([
    [[6, 5], 1],
    [[4, 3, 7], 1],
    [[2, 3, 4, 5], 1],
    [[2, 3, 4, 5], 3],
    [[2, 3, 2, 3, 4], 2],
  ])("shape %j axis %i: momentum weighs the old statistics, the variance is biased", (shape, axis) => {
    useKernels(kernels);
    const o = draw(shape, shape[axis]!, 5);
    const want = byHand({ ...o, gamma: o.gamma.fill(1), beta: o.beta.fill(0) }, channels(shape, axis), { eps: 1e-3 });
    const got = train(new BatchNormalization({ axis, momentum: 0.7 }), tf.tensor(o.x, shape));
    expect(error(got.y, want.y)).toBeLessThan(2.5e-7);
    expect(error(got.mean, moved(0, 0.7, want.mean))).toBeLessThan(3e-7);
    expect(error(got.variance, moved(1, 0.7, want.variance))).toBeLessThan(3e-7);
  });

  test("evaluates with the moving statistics, which are constants in the gradient", () => {
    useKernels(kernels);
    const shape = [3, 4, 5];
    const o = draw(shape, 4, 8);
    const given = { mean: [0.1, -0.2, 0.3, 2], variance: [0.5, 1, 2, 0.1] };
    const want = byHand(o, channels(shape, 1), { eps: 1e-3, given });
    const layer = new BatchNormalization({ axis: 1 });
    const x = tf.tensor(o.x, shape);
    layer.apply(x);
    layer.setWeights([o.gamma, o.beta, given.mean, given.variance].map((v) => tf.tensor1d(v)));
    const forward = (t: tf.Tensor) => layer.apply(t) as tf.Tensor;
    expect(error(numbers(forward(x)), want.y)).toBeLessThan(2.5e-7);
    expect(error(numbers(tf.grad(forward)(x, tf.tensor(o.dy, shape))), want.dx)).toBeLessThan(2.5e-7);
    expect(layer.getWeights().slice(2).flatMap(numbers)).toEqual(
      [...given.mean, ...given.variance].map((v) => Math.fround(v)),
    );
  });

  test("trainable: false is evaluation, also in training, as in Keras", () => {
    useKernels(kernels);
    const layer = new BatchNormalization({ trainable: false });
    const x = tf.randomNormal([6, 3], 4, 1);
    const { y, mean } = train(layer, x);
    expect(mean).toEqual([0, 0, 0]);
    expect(error(y, numbers(tf.div(x, Math.sqrt(1.001))))).toBeLessThan(3e-7);
  });

  test("one value to a channel gives beta, as in Keras", () => {
    useKernels(kernels);
    expect(train(new BatchNormalization({ betaInitializer: "ones" }), tf.tensor2d([[3, -7]])).y).toEqual([1, 1]);
  });

  test("a mask keeps positions out of the statistics; they are normalized like the others", () => {
    useKernels(kernels);
    const shape = [3, 5, 4];
    const o = draw(shape, 4, 21);
    const lengths = [5, 2, 3];
    const counts = (element: number) => Math.floor((element % 20) / 4) < lengths[Math.floor(element / 20)]!;
    // What padded steps hold takes no part, however large.
    for (let i = 0; i < o.x.length; i++) if (!counts(i)) o.x[i]! *= 100;
    const want = byHand(o, channels(shape, 2), { eps: 1e-3, counts });
    const mask = tf.tensor(
      lengths.map((n) => Array.from({ length: 5 }, (_, i) => i < n)),
      [3, 5],
      "bool",
    );
    const layer = new BatchNormalization();
    const x = tf.tensor(o.x, shape);
    layer.apply(x);
    layer.setWeights([tf.tensor1d(o.gamma), tf.tensor1d(o.beta), ...layer.getWeights().slice(2)]);
    const got = train(layer, x, { mask });
    expect(error(got.y, want.y)).toBeLessThan(2.5e-7);
    expect(error(got.mean, moved(0, 0.99, want.mean))).toBeLessThan(3e-7);
    expect(error(got.variance, moved(1, 0.99, want.variance))).toBeLessThan(3e-7);
    const forward = (t: tf.Tensor) => layer.apply(t, { training: true, mask }) as tf.Tensor;
    // Padded steps are a hundred standard deviations away, and so is their part in the gradient.
    expect(error(numbers(tf.grad(forward)(x, tf.tensor(o.dy, shape))), want.dx)).toBeLessThan(2e-6);
  });

  test("a mask with nothing valid gives no NaN; one of another shape is another layer's", () => {
    useKernels(kernels);
    const x = tf.randomNormal([2, 3, 4]);
    const none = train(new BatchNormalization(), x, { mask: tf.zeros([2, 3], "bool") });
    expect([...none.y, ...none.mean, ...none.variance].every(Number.isFinite)).toBe(true);
    const other = train(new BatchNormalization(), x, { mask: tf.zeros([2, 7], "bool") });
    expect(other).toEqual(train(new BatchNormalization(), x));
  });

  test("masks of a model reach it: what embeddings mask is not counted", () => {
    useKernels(kernels);
    const table = tf.randomNormal([5, 3]);
    const norm = new BatchNormalization({ momentum: 0 });
    const model = tfl.sequential({
      layers: [
        tfl.layers.embedding({ inputDim: 5, outputDim: 3, maskZero: true, inputLength: 4, weights: [table] }),
        norm,
      ],
    });
    const ids = tf.tensor2d([
      [1, 2, 0, 0],
      [3, 4, 4, 0],
    ]);
    model.apply(ids, { training: true });
    const counted = tf.gather(table, tf.tensor1d([1, 2, 3, 4, 4], "int32"));
    expect(error(numbers(norm.getWeights()[2]!), numbers(tf.mean(counted, 0)))).toBeLessThan(1e-6);
  });

  test("where a mean is 1e4 standard deviations, y and dx keep their digits, which TensorFlow.js's own layers lose", () => {
    useKernels(kernels);
    const shape = [512, 8];
    const o: Operands = draw(shape, 8, 3, 1e4);
    const x = tf.tensor(o.x, shape);
    const dy = tf.tensor(o.dy, shape);
    const measure = (layer: tfl.layers.Layer, axis: number) => {
      const affine = { gamma: new Float32Array(8).fill(1), beta: new Float32Array(8) };
      const perRow = placesOf(
        shape,
        (i) => i[0],
        (i) => i[1]!,
      );
      const want = byHand({ ...o, ...affine }, axis === 0 ? channels(shape, 1) : perRow, { eps: 1e-3 });
      const forward = (t: tf.Tensor) => layer.apply(t, { training: true }) as tf.Tensor;
      return {
        y: error(numbers(forward(x)), want.y),
        dx: error(numbers(tf.grad(forward)(x, dy)), want.dx),
      };
    };
    const batch = measure(new BatchNormalization(), 0);
    const row = measure(new LayerNormalization(), 1);
    for (const e of [batch.y, row.y, batch.dx, row.dx]) expect(e).toBeLessThan(2.5e-7);
    const [stockBatch, stockRow] = [
      measure(tfl.layers.batchNormalization(), 0),
      measure(tfl.layers.layerNormalization(), 1),
    ];
    for (const e of [stockBatch.y, stockRow.y]) expect(e).toBeGreaterThan(1e-4);
  });
});

describe("beside TensorFlow.js's own layer", () => {
  beforeAll(() => start("cpu"));

  test.each([[[8, 5]], [[4, 3, 5]], [[2, 3, 4, 5]]])(
    "channels last %j: y, dx, moving statistics and evaluation agree",
    (shape) => {
      const [ours, stock] = [new BatchNormalization(), tfl.layers.batchNormalization()];
      const x = tf.randomNormal(shape, 0.3, 1, "float32", 4);
      const dy = tf.randomNormal(shape, 0, 1, "float32", 5);
      const [a, b] = [train(ours, x), train(stock, x)];
      for (const name of ["y", "mean", "variance"] as const) expect(error(a[name], b[name])).toBeLessThan(1e-6);
      const slope = (l: tfl.layers.Layer) => tf.grad((t) => l.apply(t, { training: true }) as tf.Tensor)(x, dy);
      expect(error(numbers(slope(ours)), numbers(slope(stock)))).toBeLessThan(2e-6);
      expect(error(numbers(ours.apply(x) as tf.Tensor), numbers(stock.apply(x) as tf.Tensor))).toBeLessThan(1e-6);
    },
  );

  test("channels first, where its y is wrong without a word and its gradient fails", () => {
    const shape = [2, 3, 4, 3];
    const o = draw(shape, 3, 9);
    const want = byHand({ ...o, gamma: o.gamma.fill(1), beta: o.beta.fill(0) }, channels(shape, 1), { eps: 1e-3 });
    const x = tf.tensor(o.x, shape);
    const slope = (l: tfl.layers.Layer) =>
      numbers(tf.grad((t) => l.apply(t, { training: true }) as tf.Tensor)(x, tf.tensor(o.dy, shape)));
    const [ours, stock] = [new BatchNormalization({ axis: 1 }), tfl.layers.batchNormalization({ axis: 1 })];
    expect(error(train(ours, x).y, want.y)).toBeLessThan(2.5e-7);
    expect(error(slope(ours), want.dx)).toBeLessThan(1e-6);
    expect(error(train(stock, x).y, want.y)).toBeGreaterThan(0.1);
    expect(() => slope(stock)).toThrow(/must match the product of shape/);
  });

  test("without gamma, which it cannot train", () => {
    const x = tf.randomNormal([6, 3]);
    expect(() => train(tfl.layers.batchNormalization({ scale: false }), x)).toThrow(TypeError);
    expect(train(new BatchNormalization({ scale: false, center: false }), x).y.every(Number.isFinite)).toBe(true);
  });
});
