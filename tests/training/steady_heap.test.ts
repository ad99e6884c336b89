import { expect, test } from "vitest";
import { F, manualSeed, memoryStats, nn, optim, randn, scope, setThreads, tensor } from "../../src/index.js";

test("10,000 steps: live bytes after step 100 and after step 10,000 are equal, and the heap does not grow", () => {
  setThreads(1);
  manualSeed(1);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1 }),
    new nn.BatchNorm2d(4),
    new nn.ReLU(),
    new nn.Flatten(),
    new nn.Linear(64, 8),
    new nn.LayerNorm(8),
    new nn.Dropout(0.2),
    new nn.Linear(8, 3),
  );
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const step = () =>
    scope(() => {
      const loss = F.crossEntropy(model.forward(randn([4, 1, 4, 4])), tensor([0, 1, 2, 0], { dtype: "int32" }));
      optimizer.zeroGrad();
      loss.backward();
      optim.clipGradNorm(model.parameters(), 1);
      optimizer.step();
      return loss.item();
    });
  let early = memoryStats();
  for (let i = 1; i <= 10_000; i++) {
    step();
    if (i === 100) early = memoryStats();
  }
  const late = memoryStats();
  expect(late.liveBytes).toBe(early.liveBytes);
  expect(late.liveBlocks).toBe(early.liveBlocks);
  expect(late.reservedBytes).toBe(early.reservedBytes);
}, 120_000);
