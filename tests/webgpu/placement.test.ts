import { describe, expect, test } from "vitest";
import { manualSeed, nn, randn, type Tensor } from "../../src/index.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

/** What a layer takes before its options; one number where nothing is said. */
const before: Readonly<Record<string, unknown[]>> = {
  ...Object.fromEntries(["Conv1d", "Conv2d", "Conv3d"].map((name) => [name, [4, 6, 3]])),
  ...Object.fromEntries(["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"].map((name) => [name, [4, 6, 3]])),
  ...Object.fromEntries(["Linear", "Embedding", "AdaIN", "AdaLN", "FiLM", "SPADE"].map((name) => [name, [4, 6]])),
  ...{ ConditionalBatchNorm: [4, 6], MultiheadAttention: [8, 2], GroupNorm: [2, 4], MaskedGroupNorm: [2, 4] },
  ...{ GhostBatchNorm: [4], AddLayerNorm: [4], AddRMSNorm: [4] },
};
/** Losses, pooling, activations and containers have no parameters, or those of the modules that they are given. */
const without = /Loss$|Pool|^(Module|Parameter|Sequential|Residual|Checkpoint|AdaLNZero|MapLRN)$/;

type Layer = new (...args: unknown[]) => nn.Module;
const layers = Object.entries(nn as unknown as Record<string, unknown>).filter(
  (entry): entry is [string, Layer] =>
    typeof entry[1] === "function" && entry[1].prototype instanceof nn.Module && !without.test(entry[0]),
);

function made(name: string, Layer: Layer, options: object): nn.Module {
  manualSeed(7);
  const args = before[name] ?? [4];
  return new Layer(...args, options);
}

describe.skipIf(noWebGPU !== null)(`layers made on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  const parametrised = layers.filter(([name, Layer]) => {
    try {
      return Object.keys(made(name, Layer, {}).stateDict()).length > 0;
    } catch {
      return before[name] !== undefined;
    }
  });

  test("the list has what there is", () => expect(parametrised.length).toBeGreaterThan(40));

  test.each(parametrised)("%s has the numbers of the CPU; counters stay there", async (name, Layer) => {
    const [cpu, gpu] = [made(name, Layer, {}), made(name, Layer, { device: "webgpu" })];
    const [want, got] = [cpu.stateDict(), gpu.stateDict()];
    expect(Object.keys(got)).toEqual(Object.keys(want));
    for (const [key, t] of Object.entries(got)) {
      expect([key, t.device]).toEqual([key, t.dtype === "int32" ? "cpu" : "webgpu"]);
      expect(await t.data()).toEqual(want[key]!.dataSync());
    }
    for (const p of gpu.parameters()) expect(p.requiresGrad).toBe(true);
  });

  test("they compute there, and train", async () => {
    await initWebGPU();
    const on = async (device: "cpu" | "webgpu") => {
      manualSeed(3);
      const model = new nn.Sequential(
        ...[new nn.Conv2d(1, 4, 3, { device }), new nn.BatchNorm2d(4, { device }), new nn.ReLU({ device })],
        ...[new nn.Flatten(), new nn.Linear(4 * 36, 3, { device })],
      );
      const x = randn([5, 1, 8, 8], { device });
      const y = model.forward(x);
      y.square().sum().backward();
      const read = async (t: Tensor) => [...(await t.data())];
      return (await Promise.all([y, ...model.parameters().map((p) => p.grad!)].map(read))).flat();
    };
    const [want, got] = [await on("cpu"), await on("webgpu")];
    for (const [i, v] of got.entries()) expect(Math.abs(v - want[i]!)).toBeLessThan(1e-4 * (1 + Math.abs(want[i]!)));
  });
});
