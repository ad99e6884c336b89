import type { NativeSource, WorkerSetup } from "./worker.js";

export const hardwareThreads = (): number => navigator.hardwareConcurrency || 1;

/** Starts a worker from source text. It lasts as long as the page. There are no native libraries to send it. */
export function startWorker(source: string, setup: WorkerSetup): (native: NativeSource) => void {
  const url = URL.createObjectURL(
    new Blob([`onmessage = (event) => (${source})(event.data);`], { type: "text/javascript" }),
  );
  new Worker(url).postMessage(setup);
  return () => {};
}
