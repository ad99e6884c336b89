import { fstatSync, readlinkSync } from "node:fs";
import { CommunicationError } from "../../base/errors.js";
import { upwards } from "./processes.js";

/** Takes a copy of another process's open file: its number here, or one below 0 where the system does not let us. */
export type TakeFile = (pid: number, file: number) => number;

/**
 * Sees to it that the connection to the launcher is there where the environment says: Hydra hands it on as an open file, which Node
 * closes in what it starts, and without which the library would end the process and say nothing. npx itself has it still, so that a copy is
 * taken from the nearest process upwards that does.
 * Throws CommunicationError where none can be had.
 */
export function restoreConnection(environment: NodeJS.ProcessEnv, takeFile: TakeFile): void {
  const { PMI_FD } = environment;
  if (PMI_FD === undefined || isSocket(Number(PMI_FD))) return;
  const owner = upwards("PMI_FD").having.find((pid) => holdsSocket(pid, PMI_FD));
  const file = owner === undefined ? -1 : takeFile(owner, Number(PMI_FD));
  if (file >= 0) {
    environment.PMI_FD = String(file);
    return;
  }
  throw new CommunicationError({
    rule: "A rank of MPICH's mpirun inherits an open file (PMI_FD) over which ranks find each other",
    got: `none with its number ${PMI_FD}: npx and other programs of Node do not pass it on`,
    fix: "Start node_modules/.bin/evenkeel or node itself, or tell mpirun -pmi-port",
  });
}

function isSocket(file: number): boolean {
  try {
    return fstatSync(file).isSocket();
  } catch {
    return false;
  }
}

function holdsSocket(pid: number, file: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/${file}`).startsWith("socket:");
  } catch {
    return false;
  }
}
