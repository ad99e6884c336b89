import type { WorkerSetup } from "./worker.js";

export const hardwareThreads = (): number => navigator.hardwareConcurrency || 1;

/** Starts a worker from source text. It lasts as long as the page. */
export function startWorker(source: string, setup: WorkerSetup): void {
  const url = URL.createObjectURL(
    new Blob([`onmessage = (event) => (${source})(event.data);`], { type: "text/javascript" }),
  );
  new Worker(url).postMessage(setup);
}
