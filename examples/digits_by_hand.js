// A training loop written out: model, loader, optimizer, schedule, scopes, evaluation.
// Run: node examples/digits_by_hand.js
import { F, manualSeed, nn, noGrad, optim, scope } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";

/** Trains a small CNN with batch normalization; returns the share of test digits it reads correctly. */
export function main({ epochs = 5, log = console.log } = {}) {
  manualSeed(0);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 16, 3, { padding: 1, bias: false }),
    new nn.BatchNorm2d(16),
    new nn.ReLU(),
    new nn.Conv2d(16, 32, 3, { padding: 1, bias: false }),
    new nn.BatchNorm2d(32),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(32 * 4 * 4, 10),
  );
  const { train, test } = digits();
  const loader = new DataLoader(train, { batchSize: 32, shuffle: true, dropLast: true, seed: 0 });
  // Normalization parameters and biases stay out of weight decay.
  const optimizer = new optim.AdamW(optim.weightDecayGroups(model, 0.01), { lr: 3e-3 });
  const schedule = new optim.CosineWarmup(optimizer, { warmup: 20, total: epochs * loader.length });

  for (let epoch = 1; epoch <= epochs; epoch++) {
    let sum = 0;
    for (const batch of loader) {
      // What a step makes goes when it ends; parameters and optimizer state stay.
      sum += scope(() => {
        const loss = F.crossEntropy(model.forward(batch.x), batch.y);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        schedule.step();
        return loss.item();
      });
      batch.dispose();
    }
    log(`epoch ${epoch}: loss ${(sum / loader.length).toFixed(4)}`);
  }

  model.eval();
  let correct = 0;
  for (const batch of new DataLoader(test, { batchSize: 90 })) {
    correct += scope(() => noGrad(() => model.forward(batch.x).argMax(1).equal(batch.y).sum().item()));
    batch.dispose();
  }
  const accuracy = correct / test.length;
  log(`test accuracy ${(100 * accuracy).toFixed(1)} %`);
  model.dispose();
  optimizer.dispose();
  return accuracy;
}

if (import.meta.url === `file://${process.argv[1]}`) main();
