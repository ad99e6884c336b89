// biome-ignore-all assist/source/organizeImports: worker_console.js must come before h5wasm
import { hear } from "./worker_console.js";
import * as h5wasm from "h5wasm";
import type { Hdf5Place } from "./hdf5_messages.js";
import { type Hdf5Module, serveHdf5 } from "./hdf5_program.js";
import { READY } from "./hdf5_thread.js";

/** FileReaderSync is there in workers only, and so not among the types of a page. */
interface SyncReader {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}
declare const FileReaderSync: new () => SyncReader;

const post = (message: unknown, transfer: Transferable[] = []): void => postMessage(message, { transfer });

function openPlace(place: Hdf5Place): { read: (from: number, to: number) => Uint8Array; close(): void } {
  if ("bytes" in place) return { read: (from, to) => place.bytes.subarray(from, to), close() {} };
  if (!("blob" in place)) throw new Error("a browser opens no files by path");
  const reader = new FileReaderSync();
  return { read: (from, to) => new Uint8Array(reader.readAsArrayBuffer(place.blob.slice(from, to))), close() {} };
}

// Not imported when it is needed but at once: bundlers make one file of a worker, which can have no parts to load later.
const load = async (): Promise<{ ready: Promise<Hdf5Module> }> => h5wasm as unknown as { ready: Promise<Hdf5Module> };

serveHdf5({ hear, load, openPlace, post }).then(
  (serve) => {
    addEventListener("message", ({ data }) => serve(data));
    post(READY);
  },
  (error) => post({ notLoaded: String(error.message ?? error) }),
);
