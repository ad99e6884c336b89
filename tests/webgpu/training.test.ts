import { beforeAll, describe, expect, test } from "vitest";
import { convNet } from "../../src/cli/models.js";
import { DataLoader, digits } from "../../src/data/browser.js";
import { manualSeed, nn, optim, randn, scope, type Tensor, tensor } from "../../src/index.js";
import { theGpu } from "../../src/kernels/webgpu/device.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { own } from "../../src/memory/scope.js";
import { Trainer } from "../../src/train/browser.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

type Device = "cpu" | "webgpu";
const batches = Array.from({ length: 6 }, (_, i) => {
  manualSeed(100 + i);
  const y = tensor(
    Array.from({ length: 16 }, (_, j) => (i * 7 + j * 3) % 10),
    { dtype: "int32" },
  );
  return { x: own(randn([16, 1, 8, 8])), y: own(y) };
});

type Optimizer = optim.Adam | optim.SGD;

/** The loss of a step, before it. */
async function step(model: nn.Module, optimizer: Optimizer, { x, y }: (typeof batches)[number], device: Device) {
  const loss = scope(() => {
    optimizer.zeroGrad();
    const value = new nn.CrossEntropyLoss().forward(model.forward(x.to(device)), y.to(device));
    value.backward();
    optimizer.step();
    return value.detach();
  });
  return (await loss.data())[0]!;
}

/** Losses of some steps of a model, and its state after them. */
async function train(device: Device, make: () => nn.Module, optimizerOf: (p: Iterable<Tensor>) => Optimizer) {
  manualSeed(1);
  const model = make().to(device);
  const optimizer = optimizerOf(model.parameters());
  const losses: number[] = [];
  for (const batch of batches) losses.push(await step(model, optimizer, batch, device));
  await model.toCPU();
  const state = Object.values(model.stateDict()).map((t) => [...(t as Tensor).dataSync()]);
  return { losses, state };
}

const norms = ["batch", "group", "layer", "instance", "rms", "none"] as const;

describe.skipIf(noWebGPU !== null)(`training on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  beforeAll(async () => {
    await initWebGPU();
  });

  test.each(norms)("a CNN with normalization %s follows the CPU's losses", async (norm) => {
    const make = () => convNet({ imageShape: [1, 8, 8], classes: 10 }, norm);
    const optimizerOf = (p: Iterable<Tensor>) => new optim.SGD(p, { lr: 0.05, momentum: 0.9 });
    const [cpu, gpu] = [await train("cpu", make, optimizerOf), await train("webgpu", make, optimizerOf)];
    for (const [i, loss] of gpu.losses.entries()) expect(Math.abs(loss - cpu.losses[i]!)).toBeLessThan(2e-4);
    for (const [i, values] of gpu.state.entries()) {
      const worst = Math.max(...values.map((v, j) => Math.abs(v - cpu.state[i]![j]!)));
      expect(worst, `state ${i}`).toBeLessThan(2e-3);
    }
  });

  test("dropout masks are those of the CPU, Adam and attention run", async () => {
    class Block extends nn.Module {
      readonly norm = new nn.LayerNorm(8);
      readonly attention = new nn.MultiheadAttention(8, 2, { batchFirst: true });
      readonly drop = new nn.Dropout(0.2);
      readonly head = new nn.Linear(64, 10);

      override forward(x: Tensor): Tensor {
        const rows = x.reshape([-1, 8, 8]);
        const a = this.norm.forward(rows);
        const y = rows.add(this.drop.forward(this.attention.forward(a, a, a, { isCausal: true })));
        return this.head.forward(y.reshape([-1, 64]));
      }
    }
    const optimizerOf = (p: Iterable<Tensor>) => new optim.AdamW(p, { lr: 1e-3 });
    const [cpu, gpu] = [
      await train("cpu", () => new Block(), optimizerOf),
      await train("webgpu", () => new Block(), optimizerOf),
    ];
    for (const [i, loss] of gpu.losses.entries()) expect(Math.abs(loss - cpu.losses[i]!)).toBeLessThan(2e-4);
  });

  test("model and optimizer move to the GPU and back in the middle of a training", async () => {
    const run = async (devices: readonly Device[]) => {
      manualSeed(1);
      const model = convNet({ imageShape: [1, 8, 8], classes: 10 }, "batch");
      const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
      const losses: number[] = [];
      for (const [i, device] of devices.entries()) {
        if (device === "webgpu") optimizer.to(model.to(device).device);
        else await Promise.all([model.toCPU(), optimizer.toCPU()]);
        losses.push(await step(model, optimizer, batches[i]!, device));
      }
      return { losses, model, optimizer };
    };
    const [moved, stayed] = [
      await run(["cpu", "cpu", "webgpu", "webgpu", "cpu", "cpu"]),
      await run(["cpu", "cpu", "cpu", "cpu", "cpu", "cpu"]),
    ];
    for (const [i, loss] of moved.losses.entries()) expect(Math.abs(loss - stayed.losses[i]!)).toBeLessThan(5e-4);

    moved.model.to("webgpu");
    for (const p of moved.model.parameters()) p.grad = p.detach();
    expect(() => moved.optimizer.step()).toThrow(/state on cpu and a parameter on webgpu.*optimizer\.to/s);
    // A state that was saved goes to where the parameters are now.
    moved.optimizer.loadStateDict(stayed.optimizer.stateDict());
    moved.optimizer.step();
  });

  test("a step takes few submits and one reading", async () => {
    manualSeed(1);
    const model = convNet({ imageShape: [1, 8, 8], classes: 10 }, "batch").to("webgpu");
    const optimizer = new optim.AdamW(model.parameters());
    const { x, y } = batches[0]!;
    const [gx, gy] = [own(x.to("webgpu")), own(y.to("webgpu"))];
    const step = async () => {
      const loss = scope(() => {
        optimizer.zeroGrad();
        const value = new nn.CrossEntropyLoss().forward(model.forward(gx), gy);
        value.backward();
        optimizer.step();
        return value.detach();
      });
      await loss.data();
      loss.dispose();
    };
    await step();
    const before = { ...theGpu().counts };
    const live = theGpu().buffers.liveBytes;
    for (let i = 0; i < 5; i++) await step();
    const { counts, buffers } = theGpu();
    expect(counts.reads - before.reads).toBe(5);
    expect((counts.submits - before.submits) / 5).toBeLessThanOrEqual(3);
    expect(buffers.liveBytes).toBeLessThanOrEqual(live);
  });

  test("the Trainer: digits with batch normalization", async () => {
    const { train: data, test: held } = digits();
    manualSeed(2);
    const model = convNet({ imageShape: [1, 8, 8], classes: 10 }, "batch").to("webgpu");
    const trainer = new Trainer({
      model,
      optimizer: new optim.AdamW(model.parameters(), { lr: 3e-3 }),
      loss: new nn.CrossEntropyLoss(),
      train: new DataLoader(data, { batchSize: 64, shuffle: true, seed: 3 }),
      test: new DataLoader(held, { batchSize: 120 }),
      epochs: 2,
    });
    expect((await trainer.fit()).testAccuracy).toBeGreaterThan(0.95);
  });
});
