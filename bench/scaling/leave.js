/**
 * Ends this rank once all are here. MPI_Finalize of MPICH 4.0 may wait for ever over TCP, since a rank that is done no longer answers the
 * others (pmodels/mpich 6596), so with MPICH it is left out; Open MPI's launcher takes that for a failure.
 */
export function leave(communicator) {
  communicator.barrier();
  if (process.env.PMI_SIZE) process.removeAllListeners("exit");
  process.exit();
}
