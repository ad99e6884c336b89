// Batch and group normalization in a fully connected network, over batch sizes: here a statistic of batch normalization
// has as many values as the batch has samples, and no more.
// Run: node examples/batch_size_study.js
import { manualSeed, nn, optim, scope } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";
import { Trainer } from "evenkeel/train";

const layers = {
  batch: (width) => new nn.BatchNorm1d(width),
  group: (width) => new nn.GroupNorm(width / 8, width),
};

/** Test accuracy after training with one seed. The rate goes with the root of the batch size, as Adam's noise does. */
async function run(norm, batchSize, seed, epochs) {
  manualSeed(seed);
  const block = (from) => [new nn.Linear(from, 64), layers[norm](64), new nn.ReLU()];
  const model = new nn.Sequential(new nn.Flatten(), ...block(64), ...block(64), new nn.Linear(64, 10));
  const optimizer = new optim.AdamW(optim.weightDecayGroups(model, 0.01), { lr: 0.005 * Math.sqrt(batchSize / 32) });
  const { train, test } = digits();
  const loader = new DataLoader(train, { batchSize, shuffle: true, dropLast: true, seed });
  const total = epochs * loader.length;
  const trainer = new Trainer({
    ...{ model, optimizer, epochs, seed, train: loader },
    test: new DataLoader(test, { batchSize: 120 }),
    loss: new nn.CrossEntropyLoss(),
    scheduler: new optim.CosineWarmup(optimizer, { warmup: Math.min(total, 20), total }),
    schedulerEvery: "step",
  });
  const { testAccuracy } = await trainer.fit();
  scope(() => model.dispose());
  return testAccuracy;
}

/** @type {(values: number[]) => number} */
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
/** @type {(values: number[]) => number} Standard deviation, with n - 1. */
const spread = (values) => Math.sqrt(values.reduce((s, v) => s + (v - mean(values)) ** 2, 0) / (values.length - 1));

export async function main({ sizes = [32, 16, 8, 4, 2], seeds = 5, epochs = 12, log = console.log } = {}) {
  /** @type {Record<"batch" | "group", Record<number, number>>} */
  const results = { batch: {}, group: {} };
  for (const norm of /** @type {const} */ (["batch", "group"])) {
    for (const batchSize of sizes) {
      const shares = [];
      for (let seed = 0; seed < seeds; seed++) shares.push(100 * (await run(norm, batchSize, seed, epochs)));
      results[norm][batchSize] = mean(shares);
      const width = shares.length > 1 ? ` ± ${spread(shares).toFixed(2)}` : "";
      log(`${norm}, batch size ${batchSize}: ${mean(shares).toFixed(2)} %${width}`);
    }
  }
  return results;
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
