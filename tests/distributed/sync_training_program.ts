import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { initDistributed } from "../../src/distributed/index.js";
import { setThreads } from "../../src/kernels/threads/pool.js";
import { layerSteps } from "./sync_jobs.js";
import { type Training, train } from "./sync_training.js";

// The program of a rank in tests over MPI: trainings, or layers within parts of the ranks.

setThreads(1);
const world = initDistributed();
const [folder, what, text] = process.argv.slice(2);
const input = JSON.parse(text!);
// Ranks share one output, on which long lines mix.
const leave = (result: object): void => writeFileSync(join(folder!, `${world.rank}.json`), JSON.stringify(result));

if (what === "train") {
  leave((input as Training[]).map((training) => train(world, training)));
} else {
  const part = what === "split" ? world.split(input.color[world.rank])! : world.splitByNode();
  const { steps, ...job } = input.jobs[world.rank];
  const numbers = (of: readonly number[]) => Float64Array.from(of);
  const typed = steps.map((s: { shape: number[]; x: number[]; dy: number[] }) => ({
    shape: s.shape,
    x: numbers(s.x),
    dy: numbers(s.dy),
  }));
  leave({ size: part.size, ...layerSteps(part, { ...job, steps: typed }) });
}
