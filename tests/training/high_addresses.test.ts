import { expect, test } from "vitest";
import { F, manualSeed, nn, optim, randn, scope, setThreads, tensor } from "../../src/index.js";
import { Storage } from "../../src/memory/storage.js";

/** Losses of a few steps through most kernels, and some plain arithmetic. */
function results(threads: number): number[] {
  setThreads(threads);
  manualSeed(3);
  return scope(() => {
    const model = new nn.Sequential(
      ...[new nn.Conv2d(3, 8, 3, { padding: 1, stride: 2 }), new nn.BatchNorm2d(8), new nn.GELU()],
      ...[new nn.GroupNorm(2, 8), new nn.MaxPool2d(2), new nn.InstanceNorm2d(8, { affine: true }), new nn.AvgPool2d(2)],
      ...[new nn.Flatten(), new nn.Linear(128, 65), new nn.LayerNorm(65), new nn.SiLU(), new nn.RMSNorm(65)],
      ...[new nn.Dropout(0.2), new nn.BatchNorm1d(65), new nn.Softmax(1), new nn.Linear(65, 10)],
    );
    const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-2 });
    const target = tensor(Int32Array.from({ length: 16 }, (_, i) => i % 10));
    const step = () =>
      scope(() => {
        const loss = F.crossEntropy(model.forward(randn([16, 3, 32, 32])), target);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss.item();
      });
    const losses = [step(), step(), step()];
    const last = new nn.GroupNorm(4, 100, { axis: -1 }).forward(randn([20, 7, 100])).mul(2);
    const wide = randn([300, 1000]);
    const product = wide.matmul(wide, { transposeB: true }).add(wide.transpose().exp().mean());
    return [...losses, last.square().sum().item(), wide.sum(0).square().mean().item(), product.sum().item()];
  });
}

test("tensors above 2 GiB compute the same bits: addresses are unsigned everywhere", () => {
  const low = results(1);
  // Never touched, so they take address space and no memory.
  const held = [new Storage(300_000_000, "float32"), new Storage(275_000_000, "float32")];
  for (const bytes of [1 << 20, 1 << 16, 1 << 12, 256, 64]) {
    let s = new Storage(bytes / 4, "float32");
    while (s.ptr < 2 ** 31) {
      held.push(s);
      s = new Storage(bytes / 4, "float32");
    }
    s.release();
  }
  const probe = new Storage(1, "float32");
  expect(probe.ptr).toBeGreaterThan(2 ** 31);
  expect(results(1)).toEqual(low);
  expect(results(2)).toEqual(low);
  for (const s of [...held, probe]) s.release();
});
