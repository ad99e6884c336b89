import type { Mpi } from "./library.js";

/** The one library of this process: MPI can be started once. */
let started: Mpi | null = null;
let ended = false;

/** Only the main thread calls the library (MPI_THREAD_FUNNELED). */
const FUNNELED = 1;

/** Starts MPI, and sees to it that it is ended when the process is. */
export function start(mpi: Mpi): void {
  const provided = new Int32Array(1);
  mpi.check(mpi.call.MPI_Init_thread(null, null, FUNNELED, provided), "MPI_Init_thread");
  started = mpi;
  process.on("exit", (code) => end(code));
}

/**
 * Leaves the ranks: with code 0 once all of them do, otherwise at once and all with that code, since the others would wait for what
 * this one no longer sends.
 */
function end(code: number): void {
  if (!started || ended) return;
  ended = true;
  if (code === 0) started.call.MPI_Finalize();
  else started.call.MPI_Abort(started.world, code);
}

/** For an end that all ranks agreed on: none waits for another, so the process may exit with any code afterwards. */
export function finalizeDistributed(): void {
  end(0);
}
