import * as tf from "@tensorflow/tfjs-core";
import * as tfl from "@tensorflow/tfjs-layers";
import { beforeAll, describe, expect, test } from "vitest";
import { OptionError, ShapeError } from "../../src/index.js";
import {
  BatchNormalization,
  GroupNormalization,
  InstanceNormalization,
  LayerNormalization,
  RMSNormalization,
  useKernels,
} from "../../src/tfjs/index.js";
import { start } from "./setup.js";

beforeAll(() => start("cpu"));

describe("options", () => {
  test("have Keras's defaults", () => {
    expect(new BatchNormalization().getConfig()).toMatchObject({
      ...{ axis: -1, momentum: 0.99, epsilon: 1e-3, center: true, scale: true },
      movingMeanInitializer: { className: "Zeros" },
      movingVarianceInitializer: { className: "Ones" },
    });
    expect(new LayerNormalization().getConfig()).toMatchObject({ axis: -1, epsilon: 1e-3, center: true, scale: true });
    expect(new GroupNormalization().getConfig()).toMatchObject({ groups: 32, axis: -1, epsilon: 1e-3 });
    expect(new InstanceNormalization().getConfig()).toMatchObject({ groups: -1, axis: -1, epsilon: 1e-3 });
    expect(Object.keys(new RMSNormalization({ name: "r" }).getConfig())).toEqual([
      "axis",
      "epsilon",
      "name",
      "trainable",
    ]);
  });

  test.each<[() => unknown, RegExp]>([
    [() => new BatchNormalization({ epsilonn: 1 } as never), /"epsilonn"\. Did you mean "epsilon"\?/],
    [() => new BatchNormalization({ epsilon: -1 }), /epsilon must be .* at least 0; got -1/],
    [() => new BatchNormalization({ momentum: 2 }), /momentum must be a number in \[0, 1\]; got 2/],
    [() => new BatchNormalization({ axis: 1.5 }), /BatchNormalization: axis is a whole number; got 1.5/],
    [() => new BatchNormalization({ axis: [1, 2] as never }), /axis is a whole number; got \[1,2\]/],
    [() => new LayerNormalization({ axis: [] }), /axis is a whole number, or a list of at least one; got \[\]/],
    [() => new LayerNormalization({ scale: 1 as never }), /LayerNormalization: scale must be true or false; got 1/],
    [() => new LayerNormalization({ gammaInitializer: "one" as never }), /"one"\. Did you mean "ones"\?/],
    [() => new LayerNormalization({ gammaInitializer: 3 as never }), /gammaInitializer is one of zeros, .*; got 3/],
    [() => new LayerNormalization({ betaConstraint: "nonNegg" as never }), /Did you mean "nonNeg"\?/],
    [() => new LayerNormalization({ trainable: 1 as never }), /trainable must be true or false; got 1/],
    [
      () => new LayerNormalization({ gammaRegularizer: { className: "Own", config: {} } as never }),
      /gammaRegularizer names a class that TensorFlow.js knows; got "Own"\. Register it first/,
    ],
    [() => new GroupNormalization({ groups: 0 }), /groups is a whole number of at least 1, or -1 .*; got 0/],
    [() => new InstanceNormalization({ groups: 2 } as never), /one group for each channel; got "groups"/],
    [() => useKernels(1 as never), /useKernels must be true or false; got 1/],
  ])("%s", (make, said) => {
    expect(make).toThrow(OptionError);
    expect(make).toThrow(said);
  });

  test.each<[() => unknown, RegExp]>([
    [
      () => new BatchNormalization().build([null, 4, null]),
      /for the length of axis 2, which must be known; got .*\[null, 4, null\]/,
    ],
    [
      () => new BatchNormalization({ axis: 3 }).build([null, 4]),
      /BatchNormalization: axis must lie in \[-2, 1\] for rank 2; got 3/,
    ],
    [() => new LayerNormalization({ axis: [1, -1] }).build([null, 4]), /Each axis may be named once/],
    [() => new LayerNormalization({ axis: [0, 1] }).build([null, 4]), /for the length of axis 0, which must be known/],
    [
      () => new GroupNormalization({ groups: 4 }).build([null, 6]),
      /4 groups for 6 channels\. These divide 6: 1, 2, 3, 6/,
    ],
    [() => new GroupNormalization({ axis: 0, groups: 1 }).build([6, 6]), /lie behind axis 0; got axis 0/],
    [
      () => new BatchNormalization().apply([tf.zeros([2, 3]), tf.zeros([2, 3])], { training: true }),
      /BatchNormalization takes one input; got a list of 2/,
    ],
    [
      () => {
        const layer = new LayerNormalization();
        layer.apply(tf.zeros([2, 3]));
        layer.apply(tf.zeros([2, 4]));
      },
      /LayerNormalization was built for length 3 on axis 1; got an input of shape \[2, 4\]/,
    ],
    [
      () => new BatchNormalization().apply(tf.zeros([0, 3]), { training: true }),
      /cannot take statistics from an empty batch; got an input of shape \[0, 3\]/,
    ],
  ])("shapes: %s", (make, said) => {
    expect(make).toThrow(ShapeError);
    expect(make).toThrow(said);
  });

  test("initializers, regularizers and constraints are TensorFlow.js's own, at work", () => {
    const layer = new LayerNormalization({
      gammaInitializer: tfl.initializers.constant({ value: -2 }),
      gammaConstraint: "nonNeg",
      betaRegularizer: tfl.regularizers.l2({ l2: 0.5 }),
      betaInitializer: "ones",
      inputShape: [3],
    });
    const model = tfl.sequential({ layers: [layer] });
    model.compile({ optimizer: "sgd", loss: "meanSquaredError" });
    expect([...layer.gamma!.read().dataSync()]).toEqual([-2, -2, -2]);
    // 0.5 * (1 + 1 + 1)
    expect(layer.calculateLosses().map((loss) => loss.dataSync()[0])).toEqual([1.5]);
    // TensorFlow.js holds weights to their constraints where they are set.
    layer.setWeights([tf.tensor1d([-1, 0.5, 2]), tf.zeros([3])]);
    expect([...layer.gamma!.read().dataSync()]).toEqual([0, 0.5, 2]);
  });

  test("names of layers differ, and masks and shapes pass through", () => {
    const [a, b] = [new LayerNormalization(), new LayerNormalization()];
    expect(a.name).not.toBe(b.name);
    expect(a.computeOutputShape([null, 7])).toEqual([null, 7]);
    const mask = tf.ones([2, 3], "bool");
    expect(a.computeMask(tf.zeros([2, 3, 4]), mask)).toBe(mask);
  });
});
