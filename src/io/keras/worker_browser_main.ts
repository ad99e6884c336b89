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

const load = async (): Promise<{ ready: Promise<Hdf5Module> }> =>
  (await import("h5wasm")) as unknown as { ready: Promise<Hdf5Module> };

serveHdf5({ load, openPlace, post }).then(
  (serve) => {
    addEventListener("message", ({ data }) => serve(data));
    post(READY);
  },
  (error) => post({ notLoaded: String(error.message ?? error) }),
);
