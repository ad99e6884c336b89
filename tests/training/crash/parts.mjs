// What the jobs train: a small CNN with synchronized batch norm and dropout on the digits, 15 steps an epoch, with evaluations and checkpoints
// on the way.
import { join } from "node:path";
import { DataLoader, digits } from "../../../dist/data/index.js";
import { manualSeed } from "../../../dist/index.js";
import * as nn from "../../../dist/nn/index.js";
import { AdamW, CosineWarmup } from "../../../dist/optim/index.js";
import { Trainer } from "../../../dist/train/index.js";

/** A loader that tells when it begins to hand out. */
class Told extends DataLoader {
  constructor(dataset, options, tell) {
    super(dataset, options);
    this.tell = tell;
  }

  *[Symbol.iterator]() {
    this.tell();
    yield* super[Symbol.iterator]();
  }
}

export const defaults = { epochs: 3, everySteps: 4, keep: 3, dropout: true };

/** The trainer for a folder's checkpoints, made from seeds alone. `tell` is called as an evaluation begins. */
export function makeTrainer({ folder, communicator, options = defaults, callbacks = [], tell = () => {} }) {
  const { epochs, everySteps, keep, dropout } = options;
  manualSeed(3);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 4, 3, { padding: 1, bias: false }),
    new nn.SyncBatchNorm(4, { communicator }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    ...(dropout ? [new nn.Dropout(0.1)] : []),
    new nn.Linear(64, 10),
  );
  const optimizer = new AdamW(model.parameters(), { lr: 5e-3 });
  const { train, test } = digits();
  const shard = { shard: communicator };
  const loader = new DataLoader(train, { batchSize: 96, shuffle: true, seed: 3, ...shard });
  return new Trainer({
    ...{ model, optimizer, communicator, train: loader, epochs, callbacks, seed: 5 },
    test: new Told(test, { batchSize: 120, ...shard }, tell),
    loss: new nn.CrossEntropyLoss(),
    scheduler: new CosineWarmup(optimizer, { warmup: 5, total: epochs * loader.length }),
    schedulerEvery: "step",
    clipNorm: 1,
    evaluateEverySteps: 7,
    checkpoint: { path: join(folder, "run.evk"), everySteps, keep },
  });
}
