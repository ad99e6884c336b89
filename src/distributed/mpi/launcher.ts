import type { Abi } from "./abi.js";
import { statusOf, upwards } from "./processes.js";

type Environment = Readonly<Record<string, string | undefined>>;

export interface Launched {
  /** What started this process, as its documentation calls it. */
  readonly by: string;
  /** Ranks that it started, on this machine at least. */
  readonly size: number;
  /** Whether there may be more. */
  readonly here?: true;
  /** The family of libraries that understands it; null where any may. */
  readonly family: Abi["name"] | null;
  /** The variable that told: all processes of a rank have it, the launcher's own have not. */
  readonly variable: string;
}

/**
 * Variables that a launcher gives to its processes, in the order of asking: inside of a Slurm job mpirun's are there beside
 * Slurm's, and Slurm's PMI2 sets PMI_SIZE as Hydra does.
 */
const launchers = [
  { by: "Open MPI's mpirun", variable: "OMPI_COMM_WORLD_SIZE", family: "Open MPI" },
  { by: "mpiexec of MPICH (Hydra)", variable: "PMI_SIZE", beside: "MPI_LOCALNRANKS", family: "MPICH" },
  // With -pmi-port it does not say how many there are in all.
  { by: "mpiexec of MPICH (Hydra)", variable: "MPI_LOCALNRANKS", beside: "PMI_PORT", family: "MPICH", here: true },
  { by: "srun", variable: "SLURM_STEP_NUM_TASKS", family: null },
  { by: "a launcher that speaks PMI", variable: "PMI_SIZE", family: null },
] as const satisfies readonly (Omit<Launched, "size"> & { readonly beside?: string })[];

/** What started this process as one of several; null where nothing did. */
export function launchedBy(environment: Environment): Launched | null {
  for (const launcher of launchers) {
    const size = Number(environment[launcher.variable]);
    if (!Number.isInteger(size) || size < 1) continue;
    if (!("beside" in launcher) || environment[launcher.beside] !== undefined) return { ...launcher, size };
  }
  return null;
}

/**
 * Whether the launcher's process on this machine is still there. A rank whose launcher was killed has nobody left to end it when
 * another rank fails: Open MPI 4.1's ranks then live on. Between the two may stand wrappers (npx, a shell), so the launcher is the
 * first process upwards that lacks the variable. Where the system shows no processes (/proc), the parent alone is watched.
 */
export function watchLauncher(variable: string): () => boolean {
  const parent = process.ppid;
  const { above } = upwards(variable);
  const started = above > 1 ? statusOf(above)?.started : undefined;
  return () => {
    if (process.ppid !== parent) return false;
    if (started === undefined) return true;
    const now = statusOf(above);
    return now !== null && now.started === started && !now.ended;
  };
}
