import { initDistributed } from "../../dist/distributed/index.js";
import { findMpi } from "../../dist/distributed/mpi/find_node.js";
import { MpiCommunicator } from "../../dist/distributed/mpi/mpi_communicator.js";

/** Enough of a nap that who waits takes nothing from who is timed. */
const naps = new Int32Array(new SharedArrayBuffer(4));

/** The ranks of this job with each way of adding up, and the library's own blocking all-reduce of float32 as a reference. */
export function openGroup() {
  const ordered = initDistributed({ timeout: 50 });
  const family = process.env.OMPI_COMM_WORLD_SIZE ? "Open MPI" : "MPICH";
  const mpi = findMpi(family, process.env.EVENKEEL_MPI_LIBRARY);
  const library = new MpiCommunicator(mpi, mpi.world, { ...ordered.settings, sums: "library" });
  const { handle, inPlace } = mpi.abi;
  const signature = ["intptr_t", "void*", "int", handle, handle, handle];
  const call = mpi.koffi.load(mpi.name, { global: true }).func("MPI_Allreduce", "int", signature);
  const raw = (data) =>
    mpi.check(call(inPlace, data, data.length, mpi.type("float32"), mpi.operation("sum"), mpi.world), "MPI_Allreduce");
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
