import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { memoryStats } from "../../src/index.js";
import {
  BatchNormalization,
  GroupNormalization,
  InstanceNormalization,
  LayerNormalization,
  RMSNormalization,
  useKernels,
} from "../../src/tfjs/index.js";
import { error } from "./by_hand.js";
import { start } from "./setup.js";

afterEach(() => void useKernels(true));

const numbers = (t: tf.Tensor): number[] => [...t.dataSync()];

/** A model with every layer, on sequences that a mask can go through. */
function everyLayer(): tfl.Sequential {
  const dense = (units: number, seed: number) =>
    tfl.layers.dense({ units, kernelInitializer: tfl.initializers.glorotNormal({ seed }) });
  return tfl.sequential({
    layers: [
      tfl.layers.masking({ maskValue: 0, inputShape: [6, 4] }),
      dense(8, 1),
      new BatchNormalization(),
      new LayerNormalization({ axis: [1, 2] }),
      new GroupNormalization({ groups: 2 }),
      new InstanceNormalization(),
      new RMSNormalization({ axis: 1 }),
      tfl.layers.flatten(),
      dense(3, 2),
    ],
  });
}

const data = () => ({
  x: tf.randomNormal([12, 6, 4], 0, 1, "float32", 3),
  y: tf.randomNormal([12, 3], 0, 1, "float32", 4),
});

describe.each(["cpu", "wasm"] as const)("on the %s backend", (backend) => {
  beforeAll(() => start(backend));

  test("model.fit learns, and takes the same way with kernels and with TensorFlow.js's ops", async () => {
    const losses: number[][] = [];
    for (const kernels of [true, false]) {
      useKernels(kernels);
      const model = everyLayer();
      model.compile({ optimizer: tf.train.sgd(0.05), loss: "meanSquaredError" });
      const { x, y } = data();
      const { history } = await model.fit(x, y, { epochs: 6, batchSize: 5, shuffle: false, verbose: 0 });
      losses.push(history.loss as number[]);
      const evaluated = model.evaluate(x, y) as tf.Scalar;
      losses.at(-1)!.push(numbers(evaluated)[0]!);
      tf.dispose([x, y, evaluated]);
      model.dispose();
    }
    expect(losses[0]!.at(-2)! / losses[0]![0]!).toBeLessThan(0.8);
    expect(error(losses[0]!, losses[1]!)).toBeLessThan(1e-5);
  });

  test.each([true, false])("nothing stays behind after steps and predictions, kernels %s", async (kernels) => {
    useKernels(kernels);
    const model = everyLayer();
    model.compile({ optimizer: "sgd", loss: "meanSquaredError" });
    const { x, y } = data();
    const step = async () => {
      await model.trainOnBatch(x, y);
      tf.dispose(model.predict(x));
      tf.dispose(model.evaluate(x, y) as tf.Scalar);
    };
    for (let i = 0; i < 3; i++) await step();
    const before = { tensors: tf.memory().numTensors, heap: memoryStats() };
    for (let i = 0; i < 40; i++) await step();
    expect(tf.memory().numTensors).toBe(before.tensors);
    const { liveBytes, liveBlocks, reservedBytes } = memoryStats();
    const { heap } = before;
    expect([liveBytes, liveBlocks, reservedBytes]).toEqual([heap.liveBytes, heap.liveBlocks, heap.reservedBytes]);
    tf.dispose([x, y]);
    model.dispose();
  });

  test("with kernels, none of TensorFlow.js's takes part in forward or gradient but the copy that it keeps", async () => {
    const layer = new LayerNormalization();
    const x = tf.randomNormal([5, 4]);
    tf.dispose(layer.apply(x) as tf.Tensor);
    const weights = layer.trainableWeights.map((w) => w.read());
    const slope = tf.grads((t: tf.Tensor) => layer.apply(t) as tf.Tensor);
    const names = async () => (await tf.profile(() => slope([x, ...weights], x))).kernelNames;
    const own = (all: string[]) => all.filter((name) => !["Identity", "unnamed scope"].includes(name));
    expect(own(await names())).toEqual([]);
    useKernels(false);
    expect(own(await names())).toContain("Mean");
  });

  test("a gradient that is recorded and never asked for leaves nothing behind", () => {
    const layer = new LayerNormalization();
    const x = tf.randomNormal([5, 4]);
    tf.dispose(layer.apply(x) as tf.Tensor);
    const w = tf.variable(tf.scalar(2));
    const step = () => {
      // The loss does not depend on the layer: its gradient function is never called.
      const { value, grads } = tf.variableGrads(() => {
        layer.apply(x, { training: true });
        return tf.square(w) as tf.Scalar;
      }, [w]);
      tf.dispose([value, grads]);
    };
    step();
    const before = [tf.memory().numTensors, memoryStats().liveBytes];
    for (let i = 0; i < 20; i++) step();
    expect([tf.memory().numTensors, memoryStats().liveBytes]).toEqual(before);
    tf.dispose([x, w]);
  });

  test.each([
    ["batch", () => new BatchNormalization({ axis: 1 })],
    ["layer", () => new LayerNormalization({ axis: [1, 3] })],
    ["group", () => new GroupNormalization({ groups: 2, axis: 1 })],
    ["rms", () => new RMSNormalization({ scale: false, axis: [1, 2] })],
  ])("second derivatives of %s normalization are those of finite differences", (_, make) => {
    const shape = [2, 4, 3, 2];
    const layer = make() as tfl.layers.Layer;
    const x = tf.randomNormal(shape, 0, 1, "float32", 7);
    const [dy, u] = [tf.randomNormal(shape, 0, 1, "float32", 8), tf.randomNormal(shape, 0, 1, "float32", 9)];
    tf.dispose(layer.apply(x) as tf.Tensor);
    const slope = (t: tf.Tensor) => tf.grad((s) => layer.apply(s, { training: true }) as tf.Tensor)(t, dy);
    const before = tf.memory().numTensors;
    const second = tf.tidy(() => numbers(tf.grad(slope)(x, u)));
    // The Hessian is symmetric, so its product with u is the slope's change along u.
    const h = 1e-2;
    const finite = tf.tidy(() =>
      numbers(tf.div(tf.sub(slope(tf.add(x, tf.mul(u, h))), slope(tf.sub(x, tf.mul(u, h)))), 2 * h)),
    );
    expect(tf.memory().numTensors).toBe(before);
    // Central differences are off by h^2 of the fourth derivative.
    expect(error(second, finite)).toBeLessThan(5e-3);
    // The same, differentiated twice by TensorFlow.js alone.
    useKernels(false);
    expect(
      error(
        second,
        tf.tidy(() => numbers(tf.grad(slope)(x, u))),
      ),
    ).toBeLessThan(2e-5);
    tf.dispose([x, dy, u]);
  });

  test("integers are taken as numbers, and an empty batch is evaluated", () => {
    const layer = new LayerNormalization();
    const y = layer.apply(tf.tensor2d([[1, 2, 3]], [1, 3], "int32")) as tf.Tensor;
    expect(error(numbers(y), [-1.2238, 0, 1.2238])).toBeLessThan(1e-4);
    expect((layer.apply(tf.zeros([0, 3])) as tf.Tensor).shape).toEqual([0, 3]);
  });
});

test("a tensor that lies on another backend is fetched", async () => {
  await start("cpu");
  const x = tf.tensor2d([
    [1, 2, 3],
    [4, 6, 5],
  ]);
  await start("wasm");
  const layer = new LayerNormalization();
  const want = [-1.2238, 0, 1.2238, -1.2238, 1.2238, 0];
  expect(error(numbers(layer.apply(x) as tf.Tensor), want)).toBeLessThan(1e-4);
});
