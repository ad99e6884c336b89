import { parentPort, workerData } from "node:worker_threads";
import type { Communicator } from "../../src/base/communicator.js";
import { joinGroup } from "../../src/distributed/index.js";
import { setThreads } from "../../src/kernels/threads/pool.js";
import { communicatorJobs } from "./communicator_jobs.js";
import { parallelJobs } from "./parallel_jobs.js";
import { statisticsJobs } from "./statistics_jobs.js";
import { syncJobs } from "./sync_jobs.js";
import { trainerJobs } from "./trainer_jobs.js";

// The program of a worker in tests: one rank that does one job and says what came of it.
const jobs: Record<string, (communicator: Communicator, input: never) => unknown> = {
  ...communicatorJobs,
  ...parallelJobs,
  ...statisticsJobs,
  ...syncJobs,
  ...trainerJobs,
};

setThreads(1);
const { group, rank, job, input } = workerData;
try {
  const value = await jobs[job]!(joinGroup(group, rank), input as never);
  parentPort!.postMessage({ value });
} catch (error) {
  parentPort!.postMessage({ error: (error as Error).name, message: (error as Error).message });
}
