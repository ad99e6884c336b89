import { beforeAll, describe, expect, test } from "vitest";
import { DataLoader, digits } from "../../src/data/index.js";
import { F, manualSeed, nn, noGrad, optim, scope, type Tensor } from "../../src/index.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { noFloat16 } from "../conformance/webgpu_mirror.js";

const LOSS_SCALE = 1024;

const mlp = (): nn.Module =>
  new nn.Sequential(
    new nn.Flatten(),
    new nn.Linear(64, 64, { bias: false }),
    new nn.BatchNorm1d(64),
    new nn.ReLU(),
    new nn.Linear(64, 10),
  );
const cnn = (): nn.Module =>
  new nn.Sequential(
    new nn.Conv2d(1, 8, 3, { padding: 1, bias: false }),
    new nn.GroupNorm(2, 8),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(128, 10),
  );

async function accuracy(model: nn.Module, mixed: boolean): Promise<number> {
  const { test: held } = digits();
  model.eval();
  let [right, total] = [0, 0];
  for (const batch of new DataLoader(held, { batchSize: 360 })) {
    const found = scope(() =>
      noGrad(() => model.forward(mixed ? batch.x.to("webgpu").cast("float16") : batch.x.to("webgpu")).argMax(1)),
    );
    const [got, want] = [await found.data(), batch.y.dataSync()];
    for (const [i, v] of got.entries()) right += Number(v === want[i]);
    total += got.length;
    batch.dispose();
  }
  return right / total;
}

/** Losses of every tenth step, and the accuracy on digits that were not trained on. */
async function train(make: () => nn.Module, mixed: boolean, epochs: number) {
  manualSeed(0);
  const model = make().to("webgpu").train();
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
  const losses: Tensor[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const batch of new DataLoader(digits().train, { batchSize: 64, shuffle: true, seed: epoch })) {
      const loss = scope(() => {
        const [x, y] = [batch.x.to("webgpu"), batch.y.to("webgpu")];
        optimizer.zeroGrad();
        if (!mixed) {
          const value = F.crossEntropy(model.forward(x), y);
          value.backward();
          optimizer.step();
          return value.detach();
        }
        const logits = model.forward(x.cast("float16"));
        expect(logits.dtype).toBe("float16");
        const value = F.crossEntropy(logits, y);
        value.mul(LOSS_SCALE).backward();
        optim.scaleGradients(model.parameters(), 1 / LOSS_SCALE);
        optimizer.step();
        return value.detach();
      });
      if (losses.push(loss) % 20 === 0) await loss.data();
      batch.dispose();
    }
  }
  const curve = await Promise.all(losses.map(async (t) => (await t.data())[0]!));
  return { curve, accuracy: await accuracy(model, mixed), types: model.parameters().map((p) => p.dtype) };
}

describe.skipIf(noFloat16 !== null)(`mixed precision, float16 activations${noFloat16 ? ` (${noFloat16})` : ""}`, () => {
  beforeAll(async () => {
    await initWebGPU();
  });

  test.each([
    ["an MLP", mlp, 4],
    ["a CNN", cnn, 4],
  ] as const)("%s on digits learns as in float32", { timeout: 180_000 }, async (_, make, epochs) => {
    const [single, mixed] = [await train(make, false, epochs), await train(make, true, epochs)];
    expect(new Set(mixed.types)).toEqual(new Set(["float32"]));
    // The same steps but for rounding: the first losses agree to half's digits, and both learn the digits.
    for (let i = 0; i < 5; i++) expect(Math.abs(mixed.curve[i]! / single.curve[i]! - 1)).toBeLessThan(0.02);
    expect(single.accuracy).toBeGreaterThan(0.93);
    // 360 digits: one is 0.28 %.
    expect(Math.abs(mixed.accuracy - single.accuracy)).toBeLessThanOrEqual(0.02);
  });
});
