import type { Communicator } from "../../src/base/communicator.js";
import { initDistributed } from "../../src/distributed/index.js";

// The program of a rank in tests over MPI: does the job that its first argument names. Whole lines, since ranks share one output.
const say = (result: object): void => void process.stdout.write(`${JSON.stringify(result)}\n`);

const jobs: Record<string, (communicator: Communicator) => void | Promise<void>> = {
  sizes: ({ rank, size }) => say({ rank, size }),
};

await jobs[process.argv[2]!]!(initDistributed());
