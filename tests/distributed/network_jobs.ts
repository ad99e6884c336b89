import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { broadcastState, initDistributed, sumGradients } from "../../src/distributed/index.js";
import { F, manualSeed, nn, optim, randn, scope, setThreads, tensor } from "../../src/index.js";

// The program of a rank in tests over two network namespaces: sums, gathered arrays and a training run, as bits.
setThreads(1);
const communicator = initDistributed({ timeout: 30 });
const { rank, size } = communicator;
const results: number[] = [];
const note = (values: Float32Array | Float64Array): void => {
  const words = new Int32Array(values.slice().buffer);
  results.push(words.reduce((hash, word) => (Math.imul(hash, 31) + word) | 0, values.length));
};

for (const [length, Numbers] of [
  [1, Float64Array],
  [1000, Float32Array],
  [70_001, Float32Array],
  [300_007, Float64Array],
] as const) {
  const data = new Numbers(Array.from({ length }, (_, i) => Math.sin(i * (rank + 1)) / 3));
  communicator.allReduce(data, "sum");
  note(data);
}
for (const part of communicator.allGather(Float64Array.from({ length: 5 * rank }, (_, i) => i / 7))) note(part);

manualSeed(rank);
const model = new nn.Sequential(
  ...[new nn.Conv2d(1, 6, 3), new nn.SyncBatchNorm(6, { communicator }), new nn.ReLU()],
  ...[new nn.Flatten(), new nn.Linear(6 * 36, 5)],
);
broadcastState(communicator, model);
const optimizer = new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
// Unequal batches: rank 0 has 5 samples, rank 1 has 6.
const x = randn([5 + rank, 1, 8, 8]);
const y = tensor(
  Array.from({ length: 5 + rank }, (_, i) => i % 5),
  { dtype: "int32" },
);
for (let step = 0; step < 4; step++) {
  scope(() => {
    const loss = F.crossEntropy(model.forward(x), y, { reduction: "sum" }).div(11);
    optimizer.zeroGrad();
    loss.backward();
    sumGradients(communicator, model.parameters());
    optimizer.step();
  });
}
for (const value of Object.values(model.stateDict())) note(Float64Array.from(value.toArray() as number[]));

communicator.barrier();
const started = performance.now();
for (let i = 0; i < 5; i++) communicator.barrier();
const milliseconds = (performance.now() - started) / 5;
const node = communicator.splitByNode();
const place = { rank, size, host: hostname(), beside: node.size, milliseconds };
writeSync(1, `${JSON.stringify({ ...place, bits: results.join(" ") })}\n`);
