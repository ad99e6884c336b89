import type { Abi } from "./abi.js";

export interface Launched {
  /** What started this process, as its documentation calls it. */
  readonly by: string;
  /** Ranks that it started. */
  readonly size: number;
  /** The family of libraries that understands it; null where any may. */
  readonly family: Abi["name"] | null;
}

/** Variables that a launcher gives to its processes, in the order of asking: Slurm's are also there inside of mpirun. */
const launchers = [
  { by: "Open MPI's mpirun", variable: "OMPI_COMM_WORLD_SIZE", family: "Open MPI" },
  { by: "mpiexec of MPICH (Hydra)", variable: "PMI_SIZE", family: "MPICH" },
  { by: "srun", variable: "SLURM_STEP_NUM_TASKS", family: null },
] as const;

/** What started this process as one of several; null where nothing did. */
export function launchedBy(environment: Readonly<Record<string, string | undefined>>): Launched | null {
  for (const { by, variable, family } of launchers) {
    const size = Number(environment[variable]);
    if (Number.isInteger(size) && size >= 1) return { by, size, family };
  }
  return null;
}
