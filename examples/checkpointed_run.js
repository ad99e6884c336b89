// A run that is stopped half-way and taken up again from its checkpoint: the remaining losses are the same bits.
// Run: node examples/checkpointed_run.js
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { manualSeed, nn, optim } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";
import { Trainer } from "evenkeel/train";

function makeTrainer(path, callbacks = []) {
  manualSeed(1);
  const model = new nn.Sequential(
    new nn.Flatten(),
    new nn.Linear(64, 64),
    new nn.LayerNorm(64),
    new nn.ReLU(),
    new nn.Dropout(0.2),
    new nn.Linear(64, 10),
  );
  const { train, test } = digits();
  const optimizer = new optim.AdamW(optim.weightDecayGroups(model, 0.01), { lr: 5e-3 });
  return new Trainer({
    model,
    optimizer,
    loss: new nn.CrossEntropyLoss({ labelSmoothing: 0.05 }),
    train: new DataLoader(train, { batchSize: 64, shuffle: true, dropLast: true, seed: 1 }),
    test: new DataLoader(test, { batchSize: 360 }),
    epochs: 4,
    scheduler: new optim.StepLR(optimizer, 2, { gamma: 0.3 }),
    clipNorm: 1,
    checkpoint: { path, everySteps: 10 },
    callbacks,
  });
}

export async function main({ log = console.log } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
  try {
    const whole = await makeTrainer(join(folder, "whole.evk")).fit();
    log(`in one go:   ${whole.steps} steps, test accuracy ${(100 * whole.testAccuracy).toFixed(1)} %`);

    const path = join(folder, "cut.evk");
    const stopAt37 = { onStep: (event, trainer) => event.step === 37 && trainer.stop() };
    const first = await makeTrainer(path, [stopAt37]).fit();
    const second = makeTrainer(path);
    second.resume(path);
    const rest = await second.fit();
    log(`in two goes: ${first.steps} steps, then up to ${rest.steps}`);
    log(`same bits: ${rest.lossHash === whole.lossHash}`);
    return { whole, first, rest };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
