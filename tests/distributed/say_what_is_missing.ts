import { isInstalled, knownMpis, mpiIsRequired } from "./installed_mpi.js";

/** Behind the last test's line stands which suites did not run for want of an MPI. */
export const teardown = (): void => {
  if (mpiIsRequired) return;
  for (const mpi of knownMpis) {
    if (!isInstalled(mpi)) console.log(`Not run: the suites over ${mpi.name}, which is not installed (${mpi.install})`);
  }
};
