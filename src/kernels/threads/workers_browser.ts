import type { WorkerSetup } from "./worker.js";

export const hardwareThreads = (): number => navigator.hardwareConcurrency || 1;

/** Starts a worker from source text; the return value ends it. */
export function startWorker(source: string, setup: WorkerSetup): () => void {
  const url = URL.createObjectURL(
    new Blob([`onmessage = (event) => (${source})(event.data);`], { type: "text/javascript" }),
  );
  const worker = new Worker(url);
  worker.postMessage(setup);
  return () => {
    worker.terminate();
    URL.revokeObjectURL(url);
  };
}
