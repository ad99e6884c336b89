import { startThread } from "#h5";
import { DeviceError, type FormatError } from "../../base/errors.js";
import { damaged } from "../damage.js";
import type { Hdf5Listing, Hdf5Place, Hdf5Reply, Hdf5Request } from "./hdf5_messages.js";
import type { Hdf5Thread } from "./hdf5_thread.js";

export interface Hdf5Options {
  /** Milliseconds for a file of no size; each MiB adds 250. HDF5 reads a MiB in a few, and hangs on few files that are wrong. */
  readonly patience?: number;
  /** Whether the worker is used on after a file turned out to be damaged. What the file did to the library is not known. */
  readonly keepAfterDamage?: boolean;
}

/** A file that the worker has open, or can open again. */
export interface Hdf5File {
  readonly name: string;
  readonly place: Hdf5Place;
  readonly size: number;
  /** The worker that has it open, and its number there. */
  open: { readonly thread: object; readonly number: number } | null;
}

/** A heap larger than this is not kept for later files: WebAssembly's memory never shrinks. */
const LARGEST_KEPT_HEAP = 128 * 2 ** 20;

/** One worker running HDF5, asked one thing at a time. When it hangs or breaks it is ended, and the next request starts another. */
export class Hdf5 {
  readonly #patience: number;
  readonly #keepAfterDamage: boolean;
  #thread: Hdf5Thread | null = null;
  /** What the request under way waits for. */
  #waiting: { readonly reply: (reply: Hdf5Reply) => void; readonly ended: (why: string) => void } | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #numbers = 0;
  /** Bytes of the worker's WebAssembly memory when it last answered. */
  heap = 0;

  constructor({ patience = 5000, keepAfterDamage = false }: Hdf5Options = {}) {
    this.#patience = patience;
    this.#keepAfterDamage = keepAfterDamage;
  }

  list(file: Hdf5File): Promise<Hdf5Listing> {
    return this.#inTurn(() => this.#open(file));
  }

  /** The numbers of a dataset of so many bytes, in the byte order of this machine. */
  read(file: Hdf5File, path: string, bytes: number): Promise<Uint8Array> {
    return this.#inTurn(async () => {
      if (!this.#has(file)) await this.#open(file);
      const request = { kind: "read", file: file.open!.number, path, bytes } as const;
      return (await this.#ask(file, request, bytes)) as Uint8Array;
    });
  }

  /** Never fails: a worker that cannot close a file is ended. */
  close(file: Hdf5File): Promise<void> {
    return this.#inTurn(async () => {
      try {
        if (this.#has(file)) await this.#ask(file, { kind: "close", file: file.open!.number }, 0);
      } catch {
        this.stop();
      }
      file.open = null;
      if (this.heap > LARGEST_KEPT_HEAP) this.stop();
    });
  }

  /** A new file with these groups and datasets. */
  write(contents: Omit<Hdf5Request & { kind: "write" }, "kind">): Promise<Uint8Array> {
    const bytes = contents.datasets.reduce((sum, dataset) => sum + dataset.bytes.length, 0);
    return this.#inTurn(async () => {
      const file = { name: "a new file", place: { bytes: new Uint8Array(0) }, size: 0, open: null };
      const whole = (await this.#ask(file, { kind: "write", ...contents }, bytes)) as Uint8Array;
      if (this.heap > LARGEST_KEPT_HEAP) this.stop();
      return whole;
    });
  }

  /** Ends the worker; the next request starts another. */
  stop(): void {
    this.#thread?.stop();
    this.#thread = null;
    this.heap = 0;
  }

  #has(file: Hdf5File): boolean {
    return file.open !== null && file.open.thread === this.#thread;
  }

  #inTurn<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(body);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #open(file: Hdf5File): Promise<Hdf5Listing> {
    const number = ++this.#numbers;
    const request = { kind: "open", file: number, place: file.place, size: file.size } as const;
    const listing = (await this.#ask(file, request, file.size)) as Hdf5Listing;
    file.open = { thread: this.#thread!, number };
    return listing;
  }

  async #ask(file: Hdf5File, request: Hdf5Request, bytes: number): Promise<Hdf5Listing | Uint8Array | null> {
    const thread = this.#thread ?? (await this.#start());
    const limit = this.#patience + (250 * bytes) / 2 ** 20;
    thread.hold(true);
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const reply = await new Promise<Hdf5Reply | string>((resolve) => {
        timer = setTimeout(() => resolve(`no answer within ${limit.toFixed()} ms`), limit);
        this.#waiting = { reply: resolve, ended: resolve };
        thread.send(request);
      });
      if (typeof reply === "string") {
        this.stop();
        throw notReadable(file.name, "HDF5 library", reply);
      }
      this.heap = reply.heap;
      if (!("wrong" in reply)) return reply.value;
      if (reply.broken || !this.#keepAfterDamage || this.heap > LARGEST_KEPT_HEAP) this.stop();
      throw notReadable(file.name, reply.at, reply.wrong);
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
      thread.hold(false);
    }
  }

  async #start(): Promise<Hdf5Thread> {
    const why = await new Promise<string | null>((resolve) => {
      let here: Hdf5Thread | null = null;
      const started = startThread({
        ready: () => resolve(null),
        reply: (reply) => this.#thread === here && this.#waiting?.reply(reply),
        ended: (reason) => {
          resolve(reason);
          if (here === null || this.#thread !== here) return;
          this.#thread = null;
          this.#waiting?.ended(reason);
        },
      });
      if ("reason" in started) resolve(started.reason);
      else this.#thread = here = started;
    });
    if (why === null && this.#thread !== null) return this.#thread;
    this.stop();
    throw new DeviceError({
      rule: "Keras files are read and written with h5wasm",
      got: why ?? "a worker that ended as it began",
      fix: "Run npm install h5wasm",
    });
  }
}

const notReadable = (file: string, at: string, got: string): FormatError =>
  damaged(file, at, {
    rule: "An HDF5 file must be readable by the HDF5 library",
    got,
    fix: "It is cut short or damaged",
  });

/** The worker of all files, kept for later ones since it takes some 0.2 s to start. */
export const hdf5 = new Hdf5();
