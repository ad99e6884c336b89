/**
 * Words that the caller and the workers share, as indices into an Int32Array at byte CONTROL_ADDRESS.
 * Words that different sides write lie on cache lines of their own (16 words).
 */
export const CONTROL_ADDRESS = 65536;
/** Kernel arguments: doubles at this byte address, in the order of the kernel's argument class. */
export const ARGS_ADDRESS = CONTROL_ADDRESS + 4096;
export const MAX_ARGS = 256;
/** The same for kernels that run between the pieces of another (meanwhile.ts). */
export const MEANWHILE_ARGS_ADDRESS = ARGS_ADDRESS + 8 * MAX_ARGS;

export const word = {
  /** Rises by one for each job; workers sleep on it. */
  epoch: 0,
  /** Chunks nobody has taken yet. Taking one is a compare-and-swap from n to n - 1. */
  remaining: 16,
  /** Chunks that are done. */
  done: 32,
  /** Workers asleep on `epoch`; only then does the caller pay for a notify. */
  sleeping: 48,
  /** Workers that are up, for `threadsReady`. */
  ready: 64,
  /** The job: index of the kernel, units in all, units a chunk. Written by the caller before `remaining`. */
  kernel: 80,
  units: 81,
  chunkUnits: 82,
  /** Set when a kernel trapped inside a worker. */
  failed: 96,
  /** Threads that should take part, the caller counted: workers with this index or a higher one stay asleep. */
  limit: 112,
  /** Rises when the caller has sent the threads a new source of native kernels; 0: none was sent. */
  native: 113,
} as const;
