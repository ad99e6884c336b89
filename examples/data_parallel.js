// Four copies of a network, each on a thread of its own with a quarter of every batch: gradients are added up, and
// SyncBatchNorm takes its statistics from the whole batch, so that they learn what one copy would.
// Run: node examples/data_parallel.js
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { F, manualSeed, nn, noGrad, optim, scope, setThreads } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";
import { abortGroup, broadcastState, joinGroup, sharedGroup, sumGradients } from "evenkeel/distributed";

/** What each rank does; returns the mean loss of the last epoch, on rank 0 with the share of test digits read correctly. */
function train({ group, rank, epochs }) {
  // The ranks share the cores.
  setThreads(1);
  manualSeed(rank);
  const communicator = joinGroup(group, rank);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 8, 3, { padding: 1, bias: false }),
    new nn.SyncBatchNorm(8, { communicator }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(8 * 4 * 4, 10),
  );
  broadcastState(communicator, model);
  const { train: samples, test } = digits();
  // One seed for all: the same batches in the same order everywhere.
  const loader = new DataLoader(samples, { batchSize: 32, shuffle: true, seed: 0 });
  const optimizer = new optim.Adam(model.parameters(), { lr: 3e-3 });
  let mean = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const sum = new Float64Array(1);
    for (const batch of loader) {
      scope(() => {
        const total = batch.x.shape[0];
        // The last batch may be too small for all ranks; who gets nothing takes part with an empty batch.
        const from = Math.floor((rank * total) / communicator.size);
        const length = Math.floor(((rank + 1) * total) / communicator.size) - from;
        const logits = model.forward(batch.x.narrow(0, from, length));
        const loss = F.crossEntropy(logits, batch.y.narrow(0, from, length), { reduction: "sum" }).div(total);
        optimizer.zeroGrad();
        loss.backward();
        sumGradients(communicator, model.parameters());
        optimizer.step();
        sum[0] += loss.item();
      });
      batch.dispose();
    }
    communicator.allReduce(sum, "sum");
    mean = sum[0] / loader.length;
    if (rank === 0) parentPort.postMessage(`epoch ${epoch}: loss ${mean.toFixed(4)}`);
  }
  if (rank > 0) return { loss: mean };
  model.eval();
  const [all] = new DataLoader(test, { batchSize: test.length });
  const right = scope(() => noGrad(() => model.forward(all.x).argMax(1).equal(all.y).sum().item()));
  return { loss: mean, accuracy: right / test.length };
}

/** Starts the ranks and waits for them; what rank 0 returns, once all have ended. */
export async function main({ ranks = 4, epochs = 3, log = console.log } = {}) {
  const group = sharedGroup(ranks);
  const start = (rank) =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { group, rank, epochs } });
      let result;
      worker.on("message", (message) => {
        if (typeof message === "string") log(message);
        else result = message;
      });
      worker.on("error", (error) => {
        // Otherwise the others would wait for this rank until their timeout.
        abortGroup(group, error.message);
        reject(error);
      });
      worker.on("exit", () => resolve(result));
    });
  const [first] = await Promise.all(Array.from({ length: ranks }, (_, rank) => start(rank)));
  log(`test accuracy ${(100 * first.accuracy).toFixed(1)} %`);
  return first;
}

if (!isMainThread && workerData?.group) parentPort.postMessage(train(workerData));
else if (import.meta.url === `file://${process.argv[1]}`) await main();
