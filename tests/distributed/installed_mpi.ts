import { spawnSync } from "node:child_process";

/** One of the two families of MPI, as Debian installs them side by side. */
export interface InstalledMpi {
  readonly name: string;
  readonly mpirun: string;
  readonly install: string;
  readonly environment: Readonly<Record<string, string>>;
}

export const knownMpis: readonly InstalledMpi[] = [
  {
    name: "Open MPI",
    mpirun: "mpirun.openmpi",
    install: "apt install openmpi-bin",
    environment: {
      // Tests may run as root, and with more ranks than cores.
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
      OMPI_MCA_rmaps_base_oversubscribe: "1",
    },
  },
  { name: "MPICH", mpirun: "mpirun.mpich", install: "apt install mpich", environment: {} },
];

export const isInstalled = ({ mpirun }: InstalledMpi): boolean => spawnSync(mpirun, ["--version"]).status === 0;

/** Where a missing MPI is a failure and not a reason to skip, as in CI. */
export const mpiIsRequired = process.env.EVENKEEL_REQUIRE_MPI === "1";
