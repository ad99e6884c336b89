/** Kernels that are not in the module: each thread makes its own from source text, since functions cannot be sent. */
export interface NativeSource {
  /** Text of a function of NativeContext that refers to nothing outside itself, and what it gets as `data`. */
  readonly source: string;
  readonly data: Readonly<Record<string, string>>;
}

export interface NativeContext {
  readonly memory: WebAssembly.Memory;
  readonly argsAddress: number;
  readonly exports: WebAssembly.Exports;
  readonly data: NativeSource["data"];
  readonly require: (name: string) => unknown;
}

export interface WorkerSetup {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly kernelNames: readonly string[];
  readonly controlAddress: number;
  readonly argsAddress: number;
  readonly word: Readonly<Record<string, number>>;
  /** 1 .. threads - 1; the caller is 0. Kernels use it to find their own scratch memory. */
  readonly index: number;
}

/**
 * The whole life of one worker. Its source text is what the worker is started from, so it must not refer to
 * anything outside itself: then no bundler and no file layout can break it.
 *
 * It returns to JavaScript after each chunk: a loop that stayed inside WebAssembly would keep running the
 * baseline-compiled code, three times slower, since the engine swaps in optimised code only on a new call.
 */
export function workerMain(
  setup: WorkerSetup,
  receive?: () => NativeSource | undefined,
  require?: (name: string) => unknown,
): void {
  const { module, memory, kernelNames, controlAddress, argsAddress, index } = setup;
  const w = setup.word as Record<"epoch" | "remaining" | "done" | "sleeping" | "ready" | "kernel", number> &
    Record<"units" | "chunkUnits" | "failed" | "limit" | "native", number>;
  const spins = 20000; // about 50 to 100 us awake after a job: the next one of a training step usually comes sooner
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  type Kernel = (args: number, lo: number, hi: number, worker: number) => void;
  const kernels = kernelNames.map((name) => instance.exports[name] as Kernel);
  const words = new Int32Array(memory.buffer, controlAddress, 256);
  let native: Kernel[] = [];
  let version = 0;
  // Done before a chunk is taken: loading a library takes as long as many jobs, and nobody waits for it then.
  const renew = () => {
    version = Atomics.load(words, w.native);
    let newest: NativeSource | undefined;
    for (let next = receive?.(); next; next = receive?.()) newest = next;
    if (!newest) return;
    const make = new Function(`return (${newest.source})`)();
    native = make({ memory, argsAddress, exports: instance.exports, data: newest.data, require });
  };
  let seen = Atomics.load(words, w.epoch) - 1; // a job that is already under way counts as new
  Atomics.add(words, w.ready, 1);
  for (;;) {
    let spin = 0;
    while (Atomics.load(words, w.epoch) === seen) {
      if (++spin < spins) continue;
      Atomics.add(words, w.sleeping, 1);
      Atomics.wait(words, w.epoch, seen);
      Atomics.sub(words, w.sleeping, 1);
    }
    seen = Atomics.load(words, w.epoch);
    if (Atomics.load(words, w.native) !== version) {
      try {
        renew();
      } catch {
        native = [];
      }
    }
    while (index < Atomics.load(words, w.limit)) {
      const left = Atomics.load(words, w.remaining);
      if (left <= 0) break;
      if (Atomics.compareExchange(words, w.remaining, left, left - 1) !== left) continue;
      // A chunk is ours, so the job cannot end before we say so: its words are stable from here on.
      const step = words[w.chunkUnits]!;
      const lo = (left - 1) * step;
      const hi = Math.min(lo + step, words[w.units]!);
      try {
        const kernel = words[w.kernel]!;
        // The first native job may have begun while this thread still looked for more of the job before it.
        if (kernel >= kernels.length && native.length === 0) renew();
        (kernels[kernel] ?? native[kernel - kernels.length]!)(argsAddress, lo, hi, index);
      } catch {
        Atomics.store(words, w.failed, 1);
      }
      Atomics.add(words, w.done, 1);
    }
  }
}
