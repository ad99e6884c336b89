import { hardwareThreads, startWorker } from "#workers";
import { OptionError } from "../../base/errors.js";
import { heap } from "../../memory/heap.js";
import { type Kernel, kernelIndex, kernelNames, kernelTable, wasmModule } from "../wasm/module.js";
import { ARGS_ADDRESS, CONTROL_ADDRESS, MAX_ARGS, MEANWHILE_ARGS_ADDRESS, word } from "./control.js";
import { doMeanwhile, isMeanwhile, isWatched, throwFailure } from "./meanwhile.js";
import { type NativeSource, workerMain } from "./worker.js";

const MAX_THREADS = 64;
/**
 * Nanoseconds of one thread below which a fork costs more than it saves. Measured on 2 cores (Zen 5), workers awake, one
 * thread / two: addition of 65,536 floats 6.1 / 6.9 us and of 131,072 16.2 / 10 to 17 us (memory is what it waits for);
 * gelu of 8,192 13.7 / 20 us and of 16,384 26.5 / 15.0 us; LayerNorm of 24,576 36 / 20 us.
 */
const FORK_WORK = 20_000;
/** More chunks than threads let a fast thread take over from a slow one; results do not depend on it. */
const CHUNKS_PER_THREAD = 4;
/** Nanoseconds on one thread between two calls of what is to be done meanwhile: some ten times what such a call takes. */
const PIECE_WORK = 100_000;

/** Milliseconds that threads may take to start. */
const BOOT_MS = 10_000;

let threads = 0; // 0: not decided yet
/** Whether the program has said how many. */
let chosen = false;
let said = false;
/** Workers started so far. None is ever ended: two with one index, an old and a new one, would share scratch memory. */
let workers = 0;
const senders: ((native: NativeSource) => void)[] = [];
/** The module's kernels, and after them those of a native library. */
const table: Kernel[] = [...kernelTable];
let native: NativeSource | null = null;
const control = new Int32Array(heap.memory.buffer, CONTROL_ADDRESS, 256);

/** The number of threads that kernels may use. */
export function getThreads(): number {
  if (threads === 0) {
    threads = heap.shared ? Math.min(MAX_THREADS, hardwareThreads()) : 1;
    Atomics.store(control, word.limit, threads);
  }
  return threads;
}

/**
 * Sets the number of threads: 1 means none beside the caller. Results are the same bits for any number.
 * Workers start in the background with the first large job; until they are up the caller does the work. A smaller
 * number later leaves the surplus asleep.
 * Throws OptionError unless n is a whole number in [1, 64].
 */
export function setThreads(n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > MAX_THREADS) {
    throw new OptionError({ rule: `setThreads takes a whole number from 1 to ${MAX_THREADS}`, got: String(n) });
  }
  if (n > 1 && !heap.shared) sayOnce();
  chosen = true;
  useThreads(n);
}

/** Sets the number of threads for a program that does not say one, where the processor is shared with others. */
export function setDefaultThreads(n: number): void {
  if (!chosen) useThreads(Math.min(n, getThreads()));
}

function useThreads(n: number): void {
  threads = heap.shared ? n : 1;
  Atomics.store(control, word.limit, threads);
}

/** How many places per-thread scratch memory needs: also for workers that a smaller `setThreads` sent to sleep. */
export const scratchPlaces = (): number => Math.max(getThreads(), workers + 1);

/** Workers that are up (the caller not counted). For tests and for `doctor`. */
export const workersReady = (): number => Math.min(getThreads() - 1, Atomics.load(control, word.ready));

/**
 * Waits for those that have been started to be up, ten seconds at most. A thread that starts reads the environment, which nobody may
 * change meanwhile (setenv(3)).
 */
export function awaitThreads(): void {
  const since = performance.now();
  const bed = new Int32Array(new SharedArrayBuffer(4));
  while (Atomics.load(control, word.ready) < workers && performance.now() - since < BOOT_MS) Atomics.wait(bed, 0, 0, 1);
}

/** Starts the workers now, without waiting for them. */
export function startThreads(): void {
  while (workers < getThreads() - 1) {
    workers++;
    const send = startWorker(workerMain.toString(), {
      module: wasmModule,
      memory: heap.memory,
      kernelNames,
      controlAddress: CONTROL_ADDRESS,
      argsAddress: ARGS_ADDRESS,
      word,
      index: workers,
    });
    if (native) send(native);
    senders.push(send);
  }
}

/**
 * Gives the workers the source of native kernels, and takes the caller's own, made from the same source. Their indices
 * follow those of the module's kernels.
 */
export function setNativeKernels(source: NativeSource, kernels: readonly Kernel[]): void {
  native = source;
  for (const send of senders) send(source);
  Atomics.add(control, word.native, 1);
  for (const [place, kernel] of kernels.entries()) table[kernelTable.length + place] = kernel;
}

function sayOnce(): void {
  if (said) return;
  said = true;
  console.warn(
    "evenkeel: SharedArrayBuffer is not available here, so kernels run on one thread. " +
      "In a browser, serve the page with COOP: same-origin and COEP: require-corp.",
  );
}

let doubles = heap.doubles;
let argumentBlock = argumentsAt(ARGS_ADDRESS);
let meanwhileBlock = argumentsAt(MEANWHILE_ARGS_ADDRESS);

function argumentsAt(address: number): Float64Array {
  return doubles.subarray(address / 8, address / 8 + MAX_ARGS);
}

/** Where the next kernel's arguments go: doubles, in the order of its argument class. To be taken afresh for each call. */
export function kernelArgs(): Float64Array {
  if (doubles !== heap.doubles) {
    doubles = heap.doubles;
    argumentBlock = argumentsAt(ARGS_ADDRESS);
    meanwhileBlock = argumentsAt(MEANWHILE_ARGS_ADDRESS);
  }
  return isMeanwhile() ? meanwhileBlock : argumentBlock;
}

/** Arguments from place `at` on, from a list that is kept between calls. */
export function listArgs(at: number, list: readonly number[]): void {
  if (at + list.length > MAX_ARGS) throw new Error(`a kernel takes ${at + list.length} arguments; ${MAX_ARGS} fit`);
  const to = kernelArgs();
  for (let i = 0; i < list.length; i++) to[at + i] = list[i]!;
}

/** `launch` for bindings that hand over a list. */
export function launch(name: string, units: number, work: number, args: readonly number[]): void {
  if (args.length > MAX_ARGS) throw new Error(`kernel ${name} takes ${args.length} arguments; ${MAX_ARGS} fit`);
  const to = kernelArgs();
  for (let i = 0; i < args.length; i++) to[i] = args[i]!;
  run(kernelIndex(name), units, work);
}

/**
 * Runs a kernel, whose arguments stand in `kernelArgs`, over the units [0, units), cut into chunks that the caller and the
 * workers take as they can.
 *
 * A unit writes what no other unit writes, and what it writes depends on the shapes alone; that is why any number
 * of threads gives the same bits. `work` is roughly what the kernel takes on one thread, in nanoseconds, to decide whether to fork.
 */
export function run(index: number, units: number, work: number): void {
  if (units <= 0) return;
  const kernel = table[index]!;
  if (isMeanwhile()) {
    kernel(MEANWHILE_ARGS_ADDRESS, 0, units, 0);
    return;
  }
  const watched = isWatched();
  if (units === 1 || work < FORK_WORK || getThreads() === 1) {
    if (!heap.shared && work >= FORK_WORK && hardwareThreads() > 1) sayOnce();
    if (watched && work >= PIECE_WORK) runInPieces(kernel, units, work);
    else kernel(ARGS_ADDRESS, 0, units, 0);
    return;
  }
  startThreads();
  const chunkUnits = Math.ceil(units / Math.min(units, threads * CHUNKS_PER_THREAD));
  const chunks = Math.ceil(units / chunkUnits);
  control[word.kernel] = index;
  control[word.units] = units;
  control[word.chunkUnits] = chunkUnits;
  Atomics.store(control, word.done, 0);
  Atomics.store(control, word.remaining, chunks);
  Atomics.add(control, word.epoch, 1);
  if (Atomics.load(control, word.sleeping) > 0) Atomics.notify(control, word.epoch);
  for (;;) {
    const left = Atomics.load(control, word.remaining);
    if (left <= 0) break;
    if (Atomics.compareExchange(control, word.remaining, left, left - 1) !== left) continue;
    const lo = (left - 1) * chunkUnits;
    kernel(ARGS_ADDRESS, lo, Math.min(lo + chunkUnits, units), 0);
    Atomics.add(control, word.done, 1);
    if (watched && isWatched()) doMeanwhile();
  }
  // Waits only for chunks that a worker has already taken: a worker still asleep or starting holds none.
  while (Atomics.load(control, word.done) !== chunks) {}
  if (Atomics.exchange(control, word.failed, 0) !== 0)
    throw new Error(`kernel ${kernelNames[index] ?? "of a native library"} trapped in a worker`);
  if (watched) throwFailure();
}

/** Runs a kernel on this thread, a piece after the other. */
function runInPieces(kernel: Kernel, units: number, work: number): void {
  const step = Math.ceil(units / Math.ceil(work / PIECE_WORK));
  for (let lo = 0; lo < units; lo += step) {
    if (lo > 0 && isWatched()) doMeanwhile();
    kernel(ARGS_ADDRESS, lo, Math.min(lo + step, units), 0);
  }
  throwFailure();
}
