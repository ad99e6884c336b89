import { createRequire } from "node:module";
import { platform } from "node:os";
import type { Abi } from "./abi.js";
import { type Koffi, Mpi } from "./library.js";

/** Names under which systems have the libraries; version numbers are those of their binary interfaces. */
const names: readonly { readonly name: string; readonly family: Abi["name"] | null }[] =
  platform() === "darwin"
    ? [
        { name: "/opt/homebrew/lib/libmpi.dylib", family: null },
        { name: "/usr/local/lib/libmpi.dylib", family: null },
        { name: "libmpi.dylib", family: null },
      ]
    : [
        { name: "libmpi.so.40", family: "Open MPI" },
        { name: "libmpi.so.80", family: "Open MPI" },
        { name: "libmpich.so.12", family: "MPICH" },
        { name: "libmpi.so.12", family: "MPICH" },
        { name: "libmpi.so", family: null },
        { name: "libmpich.so", family: "MPICH" },
      ];

export interface NoMpi {
  /** What is missing, in a line. */
  readonly reason: string;
}

/** Loads koffi and the first library that there is; those of `family` come first. `chosen` is the one to take instead. */
export function findMpi(family: Abi["name"] | null, chosen: string | undefined): Mpi | NoMpi {
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)("koffi") as Koffi;
  } catch (error) {
    const missing = (error as { code?: string }).code === "MODULE_NOT_FOUND";
    const why = missing ? "is not installed: npm install koffi" : `does not load here (${firstLine(error)})`;
    return { reason: `koffi, which calls native libraries, ${why}` };
  }
  const own = names.filter((n) => family !== null && n.family === family);
  const wanted = chosen ? [chosen] : [...own, ...names.filter((n) => !own.includes(n))].map((n) => n.name);
  const failures: string[] = [];
  for (const name of wanted) {
    try {
      return new Mpi(koffi, name);
    } catch (error) {
      failures.push(firstLine(error));
    }
  }
  if (chosen) return { reason: `${chosen} is no MPI library that can be used (${failures[0]})` };
  return { reason: `no MPI library was found (${wanted.join(", ")}): apt install openmpi-bin, or mpich` };
}

const firstLine = (error: unknown): string => String((error as Error).message ?? error).split("\n")[0]!;
