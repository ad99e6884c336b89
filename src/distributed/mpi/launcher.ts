import { fstatSync, readFileSync } from "node:fs";
import { CommunicationError } from "../../base/errors.js";
import type { Abi } from "./abi.js";

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
 * Throws CommunicationError where the connection to the launcher was lost on the way. Hydra hands it on as an open file, which Node closes in what it
 * starts; the library would end the process without a word of that.
 */
export function checkConnection({ PMI_FD }: Environment): void {
  if (PMI_FD === undefined || isOpen(Number(PMI_FD))) return;
  throw new CommunicationError({
    rule: "A rank of MPICH's mpirun inherits an open file (PMI_FD) over which ranks find each other",
    got: `none with its number ${PMI_FD}: npx and other programs of Node do not pass it on`,
    fix: "Start node_modules/.bin/evenkeel or node itself, or tell mpirun -pmi-port",
  });
}

function isOpen(file: number): boolean {
  try {
    return fstatSync(file).isSocket();
  } catch {
    return false;
  }
}

/**
 * Whether the launcher's process on this machine is still there. A rank whose launcher was killed has nobody left to end it when
 * another rank fails: Open MPI 4.1's ranks then live on. Between the two may stand wrappers (npx, a shell), so the launcher is the
 * first process upwards that lacks the variable. Where the system shows no processes (/proc), the parent alone is watched.
 */
export function watchLauncher(variable: string): () => boolean {
  const parent = process.ppid;
  let pid = parent;
  while (pid > 1 && isRank(pid, variable)) pid = statusOf(pid)?.parent ?? 0;
  const started = pid > 1 ? statusOf(pid)?.started : undefined;
  return () => {
    if (process.ppid !== parent) return false;
    if (started === undefined) return true;
    const now = statusOf(pid);
    return now !== null && now.started === started && !now.ended;
  };
}

function isRank(pid: number, variable: string): boolean {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, "latin1")}`.includes(`\0${variable}=`);
  } catch {
    // Another user's, as Slurm's own: no rank.
    return false;
  }
}

/** A process's parent, the time of its start (numbers are used again) and whether it has ended; proc(5), fields 3, 4 and 22. */
function statusOf(pid: number): { parent: number; started: string; ended: boolean } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // Before it stands the name, which may hold spaces and parentheses.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { parent: Number(fields[1]), started: fields[19]!, ended: fields[0] === "Z" || fields[0] === "X" };
  } catch {
    return null;
  }
}
