import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { NativeSource, WorkerSetup } from "./worker.js";

export const hardwareThreads = (): number => availableParallelism();

/** Starts a worker from source text. It lasts as long as the process, and never keeps it alive. Returns what sends to it. */
export function startWorker(source: string, setup: WorkerSetup): (native: NativeSource) => void {
  const threads = `require("node:worker_threads")`;
  const receive = `() => ${threads}.receiveMessageOnPort(${threads}.parentPort)?.message`;
  const worker = new Worker(`(${source})(${threads}.workerData, ${receive}, require)`, {
    eval: true,
    workerData: setup,
    // Without this the worker would inherit loader flags of the parent (a test runner's, say) and start slowly.
    execArgv: [],
  });
  worker.unref();
  // A worker that cannot start takes no work, and the caller does it all: slower, never wrong.
  worker.on("error", () => {});
  return (native) => worker.postMessage(native);
}
