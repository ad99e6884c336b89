import type { Hdf5Place, Hdf5Reply } from "./hdf5_messages.js";
import { type Hdf5Listener, type Hdf5Thread, type NotLoaded, READY } from "./hdf5_thread.js";

/** What the worker reads by itself, part by part: in a browser a Blob. All else is sent to it. */
export const placeOf = (input: unknown): Hdf5Place | null => (input instanceof Blob ? { blob: input } : null);

/** A script that is not there says no more than that. */
const notStarted =
  'a worker that does not start: h5wasm is missing, or it is Vite\'s dev server, which needs optimizeDeps: { exclude: ["evenkeel"] }';

/** Starts the worker that h5wasm runs in: a module of its own, in the form that bundlers look for. */
export function startThread(listener: Hdf5Listener): Hdf5Thread | { reason: string } {
  const worker = new Worker(new URL("./worker_browser_main.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<Hdf5Reply | NotLoaded | typeof READY>) => {
    if (data === READY) listener.ready();
    else if ("notLoaded" in data) listener.ended(`h5wasm does not load (${data.notLoaded})`);
    else listener.reply(data);
  };
  worker.onerror = (event) => listener.ended(event.message || notStarted);
  return { send: (request) => worker.postMessage(request), hold() {}, stop: () => worker.terminate() };
}
