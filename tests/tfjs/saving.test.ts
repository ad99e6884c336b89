import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  BatchNormalization,
  GroupNormalization,
  InstanceNormalization,
  LayerNormalization,
  RMSNormalization,
  useKerasNames,
} from "../../src/tfjs/index.js";
import { start } from "./setup.js";

let restore: (() => void) | null = null;
beforeAll(() => start("cpu"));
afterEach(() => {
  restore?.();
  restore = null;
});

const numbers = (t: tf.Tensor): number[] => [...t.dataSync()];

/** What model.save writes to model.json and its weight files, by way of text. */
async function save(model: tfl.LayersModel): Promise<tf.io.ModelArtifacts> {
  let artifacts: tf.io.ModelArtifacts | undefined;
  await model.save(
    tf.io.withSaveHandler(async (given) => {
      artifacts = given;
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" } };
    }),
  );
  return { ...JSON.parse(JSON.stringify(artifacts)), weightData: artifacts!.weightData };
}

const load = (artifacts: tf.io.ModelArtifacts) => tfl.loadLayersModel(tf.io.fromMemory(artifacts));

const classNames = (artifacts: tf.io.ModelArtifacts): string[] => {
  const { config } = artifacts.modelTopology as unknown as { config: { layers: { class_name: string }[] } };
  return config.layers.map((layer) => layer.class_name);
};

function everyLayer(): tfl.Sequential {
  return tfl.sequential({
    layers: [
      new BatchNormalization({ axis: 1, momentum: 0.8, epsilon: 0.02, inputShape: [4, 6] }),
      new BatchNormalization({ scale: false, center: false, movingMeanInitializer: "randomNormal" }),
      new LayerNormalization({ axis: [1, 2], gammaInitializer: "heNormal" }),
      new GroupNormalization({ groups: 2, axis: 1, betaInitializer: tfl.initializers.constant({ value: 2 }) }),
      new InstanceNormalization({ epsilon: 1e-5, center: false }),
      new RMSNormalization({ gammaInitializer: tfl.initializers.constant({ value: 0.5 }), gammaConstraint: "nonNeg" }),
      new LayerNormalization({ gammaRegularizer: tfl.regularizers.l2({ l2: 0.3 }), betaRegularizer: "l1l2" }),
    ],
  });
}

describe("model.json", () => {
  test("holds the layers under names of their own, their options and weights", async () => {
    const model = everyLayer();
    const saved = await save(model);
    expect(new Set(classNames(saved))).toEqual(
      new Set(
        ["Batch", "Layer", "Group", "Instance"]
          .map((n) => `Evenkeel>${n}Normalization`)
          .concat("Evenkeel>RMSNormalization"),
      ),
    );
    const back = await load(saved);
    expect(back.layers.map((l) => l.constructor)).toEqual(model.layers.map((l) => l.constructor));
    // A seed that was not given comes back as null.
    const configs = (m: tfl.LayersModel) =>
      JSON.stringify(
        m.layers.map((l) => l.getConfig()),
        (_, v) => v ?? null,
      );
    expect(configs(back)).toBe(configs(model));
    expect(back.getWeights().map(numbers)).toEqual(model.getWeights().map(numbers));
    const x = tf.randomNormal([3, 4, 6]);
    expect(numbers(back.predict(x) as tf.Tensor)).toEqual(numbers(model.predict(x) as tf.Tensor));
    expect(back.layers[5]!.weights[0]!.originalName).toMatch(/\/scale$/);
  });

  test("of stock layers loads into these when asked, with the same names and order of weights", async () => {
    const layers = [
      tfl.layers.batchNormalization({ inputShape: [5], name: "bn" }),
      tfl.layers.layerNormalization({ name: "ln" }),
    ];
    const stock = tfl.sequential({ layers });
    stock.setWeights(stock.getWeights().map((w, i) => tf.randomUniform(w.shape, 0.5, 2, "float32", i)));
    const saved = await save(stock);
    const x = tf.randomNormal([4, 5]);
    expect((await load(saved)).layers[0]!.constructor).toBe(stock.layers[0]!.constructor);

    restore = useKerasNames();
    const ours = await load(saved);
    expect(ours.layers.map((l) => l.constructor)).toEqual([BatchNormalization, LayerNormalization]);
    expect(ours.weights.map((w) => w.originalName)).toEqual(stock.weights.map((w) => w.originalName));
    expect(ours.layers[0]!.weights.map((w) => w.originalName)).toEqual(
      ["gamma", "beta", "moving_mean", "moving_variance"].map((n) => `bn/${n}`),
    );
    const [a, b] = [ours, stock].map((m) => numbers(m.predict(x) as tf.Tensor));
    for (const [i, v] of a!.entries()) expect(v).toBeCloseTo(b![i]!, 5);
    // And back again: what is saved now is a stock model.
    const again = await save(ours);
    restore();
    restore = null;
    expect(classNames(again)).toEqual(["BatchNormalization", "LayerNormalization"]);
    const stockAgain = await load(again);
    expect(stockAgain.layers.map((l) => l.constructor)).toEqual(stock.layers.map((l) => l.constructor));
    expect(stockAgain.getWeights().map(numbers)).toEqual(stock.getWeights().map(numbers));
    expect(classNames(await save(everyLayer()))[0]).toBe("Evenkeel>BatchNormalization");
  });

  test("of Keras loads where TensorFlow.js has no layer of the name, with what Keras writes besides", async () => {
    const layer = (class_name: string, config: object) => ({ class_name, config: { trainable: true, ...config } });
    const modelTopology = {
      keras_version: "2.15.0",
      backend: "tensorflow",
      model_config: {
        class_name: "Sequential",
        config: {
          name: "s",
          layers: [
            layer("GroupNormalization", {
              ...{ name: "gn", batch_input_shape: [null, 3, 4], dtype: "float32", groups: 2, axis: -1, epsilon: 0.001 },
              ...{ gamma_initializer: { class_name: "Ones", config: {} }, gamma_regularizer: null, center: false },
            }),
            layer("RMSNormalization", { name: "rms", axis: [2], epsilon: 1e-6 }),
            layer("GroupNormalization", { name: "in", groups: -1 }),
          ],
        },
      },
    };
    const model = await tfl.loadLayersModel(tf.io.fromMemory({ modelTopology }), { strict: false });
    expect(model.layers.map((l) => l.constructor)).toEqual([GroupNormalization, RMSNormalization, GroupNormalization]);
    expect(model.weights.map((w) => w.originalName)).toEqual(["gn/gamma", "rms/scale", "in/gamma", "in/beta"]);
  });

  test("of Keras's BatchNormalization: axis as a list, and options that mean nothing or that are not here", () => {
    const read = (config: tf.serialization.ConfigDict) =>
      BatchNormalization.fromConfig(BatchNormalization, config) as BatchNormalization;
    expect(read({ axis: [3], synchronized: false, fused: true, renorm: false }).axis).toBe(3);
    expect(() => read({ renorm: true })).toThrow(/has the options .*; got "renorm"/);
  });

  test("names in files of Keras: InstanceNormalization is a GroupNormalization with a group for each channel", async () => {
    restore = useKerasNames();
    const model = tfl.sequential({ layers: [new InstanceNormalization({ inputShape: [5, 3] })] });
    const saved = await save(model);
    expect(classNames(saved)).toEqual(["GroupNormalization"]);
    const back = await load(saved);
    const x = tf.randomNormal([2, 5, 3]);
    expect(numbers(back.predict(x) as tf.Tensor)).toEqual(numbers(model.predict(x) as tf.Tensor));
  });
});
