import { describe, expect, test } from "vitest";
import { checkpoint, F, manualSeed, nn, Random, randn, type Tensor, tensor } from "../../src/index.js";
import { relativeError } from "../conformance/harness.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

type Device = "cpu" | "webgpu";
/** Results and gradients of a function on both devices, from one random gradient of the result. */
async function compare(of: (device: Device, ...inputs: Tensor[]) => Tensor, shapes: readonly (readonly number[])[]) {
  const random = new Random(17);
  const inputs = shapes.map((shape) => randn(shape, { random }));
  const run = (device: Device) => {
    const leaves = inputs.map((t) => {
      const leaf = t.to(device).detach();
      leaf.requiresGrad = true;
      return leaf;
    });
    manualSeed(3);
    const y = of(device, ...leaves);
    y.backward(randn(y.shape, { random: new Random(5) }).to(device));
    return [y, ...leaves.map((t) => t.grad!)];
  };
  const want = run("cpu");
  for (const [i, t] of run("webgpu").entries()) {
    const error = relativeError([...(await t.data())], [...want[i]!.dataSync()]);
    expect(error, `result ${i}`).toBeLessThanOrEqual(2e-6);
  }
}

describe.skipIf(noWebGPU !== null)(`layers on webgpu as on the CPU${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  test.each([0, 0.1])("cross entropy with class weights, smoothing %d", async (labelSmoothing) => {
    const [target, weight] = [tensor(Int32Array.of(2, 0, -100, 4, 1)), tensor([0.5, 2, 1, 0, 3])];
    for (const reduction of ["mean", "sum", "none"] as const) {
      await compare(
        (device, x) => {
          const options = { weight: weight.to(device), reduction, labelSmoothing };
          return F.crossEntropy(x, target.to(device), options);
        },
        [[5, 5]],
      );
    }
  });

  test.each([
    ["none", []],
    ["one", [3]],
    ["two in a row", [3, 5]],
    ["many", [0, 7, 8, 14, 20]],
  ] as const)("the gradient of a product with zeros: %s", async (_, zeros) => {
    const keep = tensor(
      Float32Array.from({ length: 21 }, (_, i) => ((zeros as readonly number[]).includes(i) ? 0 : 1)),
    );
    await compare((device, x) => x.mul(keep.reshape([3, 7]).to(device)).prod(1), [[3, 7]]);
    await compare((device, x) => x.mul(keep.reshape([3, 7]).to(device)).prod(), [[3, 7]]);
  });

  test("unit vectors along any axes, some of them 0 or short", async () => {
    const mask = tensor(Float32Array.from({ length: 60 }, (_, i) => (i < 10 ? 0 : 1)));
    for (const options of [
      { dim: -1 },
      { dim: 1 },
      { dim: [0, 2] },
      { dim: -1, eps: 1.5 },
      { dim: 0, p: 3 },
      { p: 1 },
    ]) {
      await compare((device, x) => F.normalize(x.mul(mask.reshape([3, 4, 5]).to(device)), options), [[3, 4, 5]]);
    }
  });

  test.each([1, -1])("layers with other axes, channels on axis %d", async (axis) => {
    const shape = axis === 1 ? [2, 4, 3, 5] : [2, 3, 5, 4];
    const layers = [
      () => new nn.GRN(4, { axis }),
      () => new nn.FilterResponseNorm(4, { axis, learnableEps: true }),
      () => new nn.SwitchableNorm(4, { axis, useBatchNorm: false }),
      () => new nn.EvoNormS0(4, { axis, groups: 2 }),
      () => new nn.GhostBatchNorm(4, { axis, virtualBatchSize: 1 }),
    ];
    for (const make of layers) {
      const layer = make();
      for (const p of layer.parameters()) p.assign(randn(p.shape, { random: new Random(4) }));
      const state = layer.stateDict();
      const on = (device: Device) => {
        const made = make();
        made.loadStateDict(state);
        return made.to(device);
      };
      await compare((device, x) => on(device).forward(x), [shape]);
    }
  });

  test("a weight under spectralNorm, whose vectors move", async () => {
    manualSeed(8);
    const layer = nn.spectralNorm(new nn.Conv2d(3, 5, 3));
    const state = Object.entries(layer.stateDict()).map(([name, t]) => [name, { shape: t.shape, data: t.dataSync() }]);
    await compare(
      (device, x) => {
        const own = nn.spectralNorm(new nn.Conv2d(3, 5, 3));
        own.loadStateDict(Object.fromEntries(state));
        own.to(device);
        own.forward(x);
        return own.forward(x);
      },
      [[2, 3, 5, 5]],
    );
  });

  test("a checkpoint: running statistics move once, and dropout draws the same", async () => {
    manualSeed(8);
    const make = () =>
      new nn.Sequential(new nn.Linear(6, 8), new nn.BatchNorm1d(8), new nn.Dropout(0.3), new nn.BatchRenorm(8));
    const state = make().stateDict();
    const model = (device: Device) => {
      const made = make();
      made.loadStateDict(state);
      return made.to(device);
    };
    const after: Tensor[] = [];
    const body = (device: Device, x: Tensor) => {
      const made = model(device);
      after.push(made.stateDict()["1.running_var"]!);
      return checkpoint(made, x);
    };
    await compare(body, [[7, 6]]);
    const [cpu, gpu] = await Promise.all(after.map((t) => t.data()));
    expect(relativeError([...gpu!], [...cpu!])).toBeLessThanOrEqual(1e-6);
  });
});
