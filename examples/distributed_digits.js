// A training over MPI written out: each rank learns from its part of every batch, and all have the same model after every step.
// Run: mpirun -n 2 node examples/distributed_digits.js (alone, without mpirun, it learns the same).
import { F, manualSeed, nn, noGrad, optim, scope, setThreads } from "evenkeel";
import { DataLoader, digits } from "evenkeel/data";
import { DistributedDataParallel, initDistributed } from "evenkeel/distributed";

/** Trains a small CNN on all ranks; returns the mean loss of the last epoch and the share of test digits read correctly. */
export function main({ epochs = 5, log = console.log } = {}) {
  const communicator = initDistributed();
  const { rank, size } = communicator;
  // Ranks share the cores of their machine.
  if (size > 1) setThreads(1);
  manualSeed(rank);
  const model = new DistributedDataParallel(
    new nn.Sequential(
      new nn.Conv2d(1, 16, 3, { padding: 1, bias: false }),
      new nn.SyncBatchNorm(16, { communicator }),
      new nn.ReLU(),
      new nn.MaxPool2d(2),
      new nn.Flatten(),
      new nn.Linear(16 * 4 * 4, 10),
    ),
    // The losses below are divided by the size of the whole batch, so that gradients add up.
    { communicator, gradients: "sum" },
  );
  const { train, test } = digits();
  const loader = new DataLoader(train, { batchSize: 64, shuffle: true, seed: 0, shard: communicator });
  const optimizer = new optim.AdamW(optim.weightDecayGroups(model, 0.01), { lr: 3e-3 });

  let mean = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const sum = new Float64Array(1);
    for (const batch of loader) {
      scope(() => {
        const logits = model.forward(batch.x);
        const loss = F.crossEntropy(logits, batch.y, { reduction: "sum" }).div(batch.globalSize);
        optimizer.zeroGrad();
        loss.backward();
        optim.clipGradNorm(model.parameters(), 1);
        optimizer.step();
        sum[0] += loss.item();
      });
      batch.dispose();
    }
    communicator.allReduce(sum, "sum");
    mean = sum[0] / loader.length;
    if (rank === 0) log(`epoch ${epoch}: loss ${mean.toFixed(4)}`);
  }

  model.eval();
  const right = new Float64Array(1);
  for (const batch of new DataLoader(test, { batchSize: 90, shard: communicator })) {
    right[0] += scope(() => noGrad(() => model.forward(batch.x).argMax(1).equal(batch.y).sum().item()));
    batch.dispose();
  }
  communicator.allReduce(right, "sum");
  const accuracy = right[0] / test.length;
  if (rank === 0) log(`${size} rank${size > 1 ? "s" : ""}: test accuracy ${(100 * accuracy).toFixed(1)} %`);
  const { messages, hidden } = model.statistics;
  if (messages > 0 && rank === 0) log(`${hidden} of ${messages} messages came while backward went on`);
  model.dispose();
  optimizer.dispose();
  return { loss: mean, accuracy };
}

if (import.meta.url === `file://${process.argv[1]}`) main();
