import { initDistributed } from "../../src/distributed/index.js";
import { gatherJson } from "../../src/distributed/together.js";
import { setThreads } from "../../src/kernels/threads/pool.js";
import { parallelJobs } from "./parallel_jobs.js";

// The program of a rank over MPI: does jobs of parallel_jobs.ts, given as JSON, one after the other. Rank 0 prints what they came to on all:
// long lines of several ranks may be mixed up on their way.
setThreads(1);
const communicator = initDistributed();
const list = JSON.parse(process.argv[2]!) as [job: keyof typeof parallelJobs, input: never][];
const results = list.map(([job, input]) => parallelJobs[job](communicator, input));
const all = gatherJson(communicator, results);
if (communicator.rank === 0) process.stdout.write(`${JSON.stringify({ all })}\n`);
