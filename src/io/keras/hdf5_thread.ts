import type { Hdf5Reply, Hdf5Request } from "./hdf5_messages.js";

/** The worker as the main thread sees it. */
export interface Hdf5Thread {
  send(request: Hdf5Request): void;
  /** While it is held, a Node process waits for its answer; otherwise it may end. */
  hold(held: boolean): void;
  stop(): void;
}

export interface Hdf5Listener {
  /** The library is loaded. */
  ready(): void;
  reply(reply: Hdf5Reply): void;
  /** The worker is gone, or never came to be; `why` in words. */
  ended(why: string): void;
}

/** What the worker sends first. */
export const READY = "ready";
/** What it sends instead when the library does not load. */
export interface NotLoaded {
  readonly notLoaded: string;
}
