import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import type { Hdf5Place, Hdf5Reply } from "./hdf5_messages.js";
import { serveHdf5 } from "./hdf5_program.js";
import { type Hdf5Listener, type Hdf5Thread, type NotLoaded, READY } from "./hdf5_thread.js";

/** What the worker reads by itself, part by part: in Node a file. All else is sent to it. */
export const placeOf = (input: unknown): Hdf5Place | null =>
  typeof input === "string" ? { path: resolve(input) } : null;

// What the program is given in Node. Text, as the program itself becomes: it has neither imports nor a file of its own.
const host = `{
  hear: (listen) => { console.log = console.warn = console.error = listen; },
  load: () => import(threads.workerData),
  post: (reply, transfer) => threads.parentPort.postMessage(reply, transfer),
  openPlace: ({ bytes, path }) => {
    if (bytes) return { read: (from, to) => bytes.subarray(from, to), close() {} };
    const files = require("node:fs");
    const file = files.openSync(path, "r");
    return {
      read: (from, to) => {
        const part = new Uint8Array(to - from);
        return part.subarray(0, files.readSync(file, part, 0, part.length, from));
      },
      close: () => files.closeSync(file),
    };
  },
}`;

/** Starts the worker that h5wasm runs in, with little stack and heap: what a file needs lies in buffers outside of the heap. */
export function startThread(listener: Hdf5Listener): Hdf5Thread | { reason: string } {
  let library: string;
  try {
    library = import.meta.resolve("h5wasm");
  } catch {
    return { reason: "none: h5wasm is not installed" };
  }
  const source = `
    const threads = require("node:worker_threads");
    (${serveHdf5})(${host}).then(
      (serve) => { threads.parentPort.on("message", serve); threads.parentPort.postMessage("${READY}"); },
      (error) => threads.parentPort.postMessage({ notLoaded: String(error.message ?? error) }),
    );`;
  const worker = new Worker(source, {
    eval: true,
    workerData: library,
    // Without this the worker would inherit loader flags of the parent (a test runner's, say).
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 },
  });
  worker.on("message", (message: Hdf5Reply | NotLoaded | typeof READY) => {
    if (message === READY) listener.ready();
    else if ("notLoaded" in message)
      listener.ended(`h5wasm is installed but does not load here (${message.notLoaded})`);
    else listener.reply(message);
  });
  worker.on("error", (error) => listener.ended(error.message));
  worker.on("exit", (code) => listener.ended(`the worker ended with code ${code}`));
  return {
    send: (request) => worker.postMessage(request),
    hold: (held) => (held ? worker.ref() : worker.unref()),
    stop: () => void worker.terminate(),
  };
}
