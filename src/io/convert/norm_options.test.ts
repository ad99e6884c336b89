import { describe, expect, test } from "vitest";
import { OptionError } from "../../base/errors.js";
import { BatchNorm, GroupNorm, LayerNorm, RMSNorm } from "../../nn/norm/index.js";
import { layerOptions, normOptions } from "./norm_options.js";

describe("normOptions", () => {
  // What each framework documents as its defaults, in Evenkeel's meaning.
  test.each([
    ["keras", "BatchNorm", { eps: 1e-3, momentum: 0.01, runningVariance: "biased" }],
    ["tfjs", "BatchNorm", { eps: 1e-3, momentum: 0.01, runningVariance: "biased" }],
    ["flax", "BatchNorm", { eps: 1e-5, momentum: 0.01, runningVariance: "biased" }],
    ["pytorch", "BatchNorm", { eps: 1e-5, momentum: 0.1 }],
    ["keras", "LayerNorm", { eps: 1e-3 }],
    ["flax", "LayerNorm", { eps: 1e-6 }],
    ["pytorch", "LayerNorm", { eps: 1e-5 }],
    ["keras", "GroupNorm", { eps: 1e-3 }],
    ["flax", "GroupNorm", { eps: 1e-6 }],
    ["flax", "InstanceNorm", { eps: 1e-6 }],
    ["keras", "RMSNorm", { eps: 1e-6 }],
    ["flax", "RMSNorm", { eps: 1e-6 }],
    ["pytorch", "RMSNorm", { eps: null }],
  ] as const)("defaults of %s's %s", (from, layer, wanted) => {
    expect(normOptions(layer, {}, from)).toEqual(wanted);
    const made = {
      BatchNorm: () => new BatchNorm(4, normOptions(layer, {}, from)),
      LayerNorm: () => new LayerNorm(4, normOptions(layer, {}, from)),
      GroupNorm: () => new GroupNorm(2, 4, normOptions(layer, {}, from) as object),
      InstanceNorm: () => null,
      RMSNorm: () => new RMSNorm(4, normOptions(layer, {}, from)),
    }[layer]();
    made?.dispose();
  });

  test("from any framework to any other", () => {
    expect(normOptions("BatchNorm", { momentum: 0.9, eps: 1e-4 }, "keras", "pytorch")).toEqual({
      eps: 1e-4,
      momentum: 0.1,
    });
    expect(normOptions("BatchNorm", { momentum: 0.05 }, "pytorch", "keras")).toEqual({ epsilon: 1e-5, momentum: 0.95 });
    expect(normOptions("BatchNorm", { axis: 1 }, "pytorch", "flax")).toEqual({ epsilon: 1e-5, momentum: 0.9 });
    expect(normOptions("BatchNorm", { axis: 2 }, "keras", "evenkeel")).toMatchObject({ axis: 2 });
    expect(normOptions("BatchNorm", { axis: 1 }, "keras", "tfjs")).toMatchObject({ axis: 1 });
    expect(normOptions("BatchNorm", { momentum: null }, "pytorch", "evenkeel")).toMatchObject({ momentum: null });
  });

  test.each<[() => unknown, RegExp]>([
    [() => normOptions("BatchNorm", { momentum: null }, "pytorch", "keras"), /momentum null.*PyTorch's alone/],
    [() => normOptions("RMSNorm", {}, "pytorch", "keras"), /takes a number for eps/],
    [() => normOptions("BatchNorm", { momentum: 2 }, "keras"), /momentum must be/],
    [() => normOptions("BatchNorm", { epsilon: 1 } as object, "keras"), /options momentum, axis, eps/],
    [() => normOptions("BatchNrom" as "BatchNorm", {}, "keras"), /Did you mean "BatchNorm"/],
    [() => normOptions("BatchNorm", {}, "torch" as "pytorch"), /from must be/],
  ])("refuses %s", (call, message) => {
    expect(call).toThrow(OptionError);
    expect(call).toThrow(message);
  });
});

test("layers of a configuration, with what they leave to Keras's defaults", () => {
  const layer = (class_name: string, config: object) => ({ class_name, config });
  const config = layer("Sequential", {
    layers: [
      layer("Dense", { name: "dense" }),
      layer("BatchNormalization", { name: "bn", momentum: 0.9, epsilon: 0.002, axis: [3] }),
      layer("LayerNormalization", { name: "ln" }),
      layer("__proto__", { name: "odd" }),
    ],
  });
  expect(layerOptions({ config }, "keras", "evenkeel")).toEqual([
    { layer: "bn", kind: "BatchNorm", options: { eps: 0.002, momentum: 0.1, runningVariance: "biased" } },
    { layer: "ln", kind: "LayerNorm", options: { eps: 1e-3 } },
  ]);
  expect(layerOptions({ config: null }, "keras", "evenkeel")).toEqual([]);
  expect(layerOptions({ config }, "pytorch", "evenkeel")).toEqual([]);
});
