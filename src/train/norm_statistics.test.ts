import { describe, expect, it } from "vitest";
import { randn, type Tensor, tensor } from "../autograd/index.js";
import { scope } from "../memory/scope.js";
import { BatchNorm1d, GroupNorm, InstanceNorm2d, LayerNorm, Module, ReLU, RMSNorm, Sequential } from "../nn/index.js";
import { normKind, watchNormLayers } from "./norm_statistics.js";

const statistics = async (model: Module, x: Tensor) => {
  const { layers } = scope(() => watchNormLayers(model, () => model.forward(x)));
  return { layers: await layers() };
};

describe("statistics of normalization layers", () => {
  it("are those of the layer's input, for each channel", async () => {
    // Channel 0: 1, 3, 5, 7; channel 1: 1e4 and a hair.
    const x = tensor([
      [
        [1, 3],
        [10000, 10001],
      ],
      [
        [5, 7],
        [10002, 10003],
      ],
    ]);
    const { layers } = await statistics(new Sequential(new BatchNorm1d(2), new ReLU()), x);
    expect(layers).toHaveLength(1);
    const [{ layer, kind, inputMean, inputVariance, runningMean, gamma, beta }] = layers as [(typeof layers)[0]];
    expect([layer, kind]).toEqual(["0", "batch"]);
    expect(inputMean).toMatchObject({ min: 4, max: 10001.5 });
    expect(inputVariance).toMatchObject({ min: 1.25, max: 5 });
    expect(runningMean!.min).toBeCloseTo(0.4, 6);
    expect(gamma).toEqual({ mean: 1, std: 0, min: 1, max: 1 });
    expect(beta).toEqual({ mean: 0, std: 0, min: 0, max: 0 });
  });

  it("have null for what a layer lacks", async () => {
    const x = randn([2, 4, 3, 3]);
    const kinds = [new GroupNorm(2, 4), new LayerNorm([4, 3, 3]), new InstanceNorm2d(4), new RMSNorm([4, 3, 3])];
    expect(kinds.map(normKind)).toEqual(["group", "layer", "instance", "rms"]);
    const { layers } = await statistics(new Sequential(...kinds), x);
    expect(layers.map(({ runningMean, gamma, beta }) => [runningMean, gamma, beta].map((s) => s !== null))).toEqual([
      [false, true, true],
      [false, true, true],
      [false, false, false],
      [false, true, false],
    ]);
  });

  it("take the last axis as channels where a layer normalizes only that", async () => {
    const x = tensor([
      [
        [1, 100],
        [3, 300],
      ],
    ]);
    expect((await statistics(new LayerNorm(2), x)).layers[0]!.inputMean).toMatchObject({ min: 2, max: 200 });
  });

  it("leave the model as it was, also after an error, and see a shared layer once", async () => {
    class Twice extends Module {
      readonly a = new BatchNorm1d(2);
      readonly b = this.a;

      override forward(x: Tensor): Tensor {
        return this.b.forward(this.a.forward(x));
      }
    }
    const model = new Twice();
    const before = model.a.forward;
    expect((await statistics(model, randn([4, 2]))).layers).toHaveLength(1);
    expect(model.a.forward).toBe(before);
    await expect(statistics(model, randn([4, 3]))).rejects.toThrow();
    expect(model.a.forward).toBe(before);
  });

  it("are null where a value is not finite", async () => {
    const { layers } = await statistics(
      new BatchNorm1d(2),
      tensor([
        [1, Number.NaN],
        [2, 3],
      ]),
    );
    expect(layers[0]).toMatchObject({ inputMean: null, inputVariance: null });
    expect(layers[0]!.gamma).not.toBeNull();
  });
});
