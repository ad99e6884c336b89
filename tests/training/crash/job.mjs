// The training job that is killed: one process, or a rank of several. It goes on from its newest whole checkpoint. Arguments: the folder for
// its files, then options as JSON. Rank 0 says how it ends as one line of JSON, and in `phase` what it is doing.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DataLoader, digits } from "../../../dist/data/index.js";
import { initDistributed } from "../../../dist/distributed/index.js";
import { manualSeed } from "../../../dist/index.js";
import * as nn from "../../../dist/nn/index.js";
import { AdamW, CosineWarmup } from "../../../dist/optim/index.js";
import { Trainer } from "../../../dist/train/index.js";

const folder = process.argv[2];
const options = { epochs: 3, everySteps: 4, keep: 3, dropout: true, pause: 0, ...JSON.parse(process.argv[3] ?? "{}") };
const communicator = initDistributed();
const first = communicator.rank === 0;

const phase = (name) => {
  if (first) writeFileSync(join(folder, "phase"), name);
};

/** A loader that tells when it begins to hand out. */
class Told extends DataLoader {
  *[Symbol.iterator]() {
    phase("evaluation");
    yield* super[Symbol.iterator]();
  }
}

manualSeed(3);
const model = new nn.Sequential(
  new nn.Conv2d(1, 4, 3, { padding: 1, bias: false }),
  new nn.SyncBatchNorm(4, { communicator }),
  new nn.ReLU(),
  new nn.MaxPool2d(2),
  new nn.Flatten(),
  ...(options.dropout ? [new nn.Dropout(0.1)] : []),
  new nn.Linear(64, 10),
);
const optimizer = new AdamW(model.parameters(), { lr: 5e-3 });
const { train, test } = digits();
const shard = { shard: communicator };
const loader = new DataLoader(train, { batchSize: 96, shuffle: true, seed: 3, ...shard });
const losses = [];
const trainer = new Trainer({
  ...{ model, optimizer, communicator, train: loader, epochs: options.epochs, seed: 5 },
  test: new Told(test, { batchSize: 120, ...shard }),
  loss: new nn.CrossEntropyLoss(),
  scheduler: new CosineWarmup(optimizer, { warmup: 5, total: options.epochs * loader.length }),
  schedulerEvery: "step",
  clipNorm: 1,
  evaluateEverySteps: 7,
  checkpoint: { path: join(folder, "run.evk"), everySteps: options.everySteps, keep: options.keep },
  callbacks: [
    {
      async onEvent({ type, step, loss }) {
        if (type === "step") losses.push([step, loss]);
        phase(type === "runEnd" ? "end" : type === "runStart" ? "first steps" : "steps");
        if (type === "step" && options.pause > 0) await new Promise((resolve) => setTimeout(resolve, options.pause));
      },
    },
  ],
});
phase("start");
const resumed = trainer.resume("auto");
const { lossHash, steps, testAccuracy, testLoss } = await trainer.fit();
phase("leaving");
if (first) {
  const result = { lossHash, steps, testAccuracy, testLoss, resumed, ranks: communicator.size };
  process.stdout.write(`${JSON.stringify({ ...result, ...(options.losses ? { losses } : {}) })}\n`);
}
