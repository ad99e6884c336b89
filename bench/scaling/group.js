import { initDistributed } from "../../dist/distributed/index.js";
import { MpiCommunicator } from "../../dist/distributed/mpi/mpi_communicator.js";

/** Enough of a nap that who waits takes nothing from who is timed. */
const naps = new Int32Array(new SharedArrayBuffer(4));

/**
 * The ranks of this job with each way of adding up, and the library's own blocking all-reduce as a reference, which takes float32 numbers on
 * the heap.
 */
export function openGroup() {
  const ordered = initDistributed({ timeout: 50 });
  const { mpi, lifetime, settings } = ordered;
  const library = new MpiCommunicator(mpi, lifetime, mpi.world, { ...settings, sums: "library" });
  const { handle, inPlace } = mpi.abi;
  const signature = ["intptr_t", "intptr_t", "int", handle, handle, handle];
  const call = mpi.library.func("MPI_Allreduce", "int", signature);
  const raw = (data) => {
    const at = mpi.address(data.byteOffset);
    mpi.check(call(inPlace, at, data.length, mpi.types.float32, mpi.operations.sum, mpi.world), "MPI_Allreduce");
  };
  return { ordered, library, raw, version: versionOf(mpi) };
}

/** A barrier in which a rank sleeps, so that others have the cores to themselves. */
export function meetAsleep(communicator, milliseconds = 2) {
  const all = communicator.barrierAsync();
  while (!all.test()) Atomics.wait(naps, 0, 0, milliseconds);
}

/** As in "Open MPI v4.1.4" or "MPICH 4.0.2". */
function versionOf({ version }) {
  const [first] = version.split("\n")[0].split(",");
  return first.replace(/Version:\s*/, "").trim();
}
