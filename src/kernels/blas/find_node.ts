import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { platform } from "node:os";
import type { Found, NotFound } from "./found.js";
import { blas } from "./kernels.js";
import { type Koffi, nativeKernels } from "./native.js";

const names: Readonly<Record<string, readonly string[]>> = {
  darwin: [
    "/System/Library/Frameworks/Accelerate.framework/Accelerate",
    "libopenblas.dylib",
    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
    "/usr/local/opt/openblas/lib/libopenblas.dylib",
  ],
  win32: ["libopenblas.dll", "openblas.dll"],
  linux: ["libopenblas.so.0", "libopenblas.so", "libopenblas.so.3", "libblas.so.3"],
};
const advice: Readonly<Record<string, string>> = {
  darwin: "brew install openblas",
  win32: "put libopenblas.dll on the PATH",
  linux: "apt install libopenblas0 (or your system's OpenBLAS package)",
};

type Require = ((name: string) => unknown) & { resolve(name: string): string };

/** Loads koffi and the library; what is missing comes back as one line. */
export function findBlas(choice: string, require: Require = createRequire(import.meta.url)): Found | NotFound {
  let path: string;
  try {
    path = require.resolve("koffi");
  } catch {
    return { reason: "koffi, which calls native libraries, is not installed: npm install koffi" };
  }
  let koffi: Koffi;
  try {
    koffi = require(path) as Koffi;
  } catch (error) {
    return { reason: `koffi is installed but does not load here (${firstLine(error)})` };
  }
  const wanted = choice === "auto" ? (names[platform()] ?? names.linux!) : [choice];
  const failures: string[] = [];
  for (const name of wanted) {
    try {
      const found = { koffi: path, library: name, require, kernels: blas, make: nativeKernels };
      return { ...found, ...describe(loaded(koffi, name), name) };
    } catch (error) {
      failures.push(firstLine(error));
    }
  }
  if (choice !== "auto") return { reason: `${choice} is no BLAS library that can be used (${failures[0]})` };
  return { reason: `no BLAS library was found (${wanted.join(", ")}): ${advice[platform()] ?? advice.linux}` };
}

const firstLine = (error: unknown): string => String((error as Error).message ?? error).split("\n")[0]!;

type Library = ReturnType<Koffi["load"]>;

/**
 * OpenBLAS reads its environment once, when it is loaded. It is told to start no threads, since it is called on ours.
 * Where the processor has AVX-512 it is told to use it: OpenBLAS 0.3.21 takes processors younger than itself for
 * old ones (a Zen 5 for a Haswell), and multiplies half as fast then.
 */
function loaded(koffi: Koffi, name: string): Library {
  const settings: Record<string, string> = { OPENBLAS_NUM_THREADS: "1" };
  if (hasAvx512()) settings.OPENBLAS_CORETYPE = "SKYLAKEX";
  const own = Object.keys(settings).filter((key) => process.env[key] === undefined);
  for (const key of own) process.env[key] = settings[key];
  try {
    const library = koffi.load(name);
    library.func("cblas_sgemm", "void", []);
    library.func("cblas_dgemm", "void", []);
    return library;
  } finally {
    for (const key of own) delete process.env[key];
  }
}

function hasAvx512(): boolean {
  try {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    return ["avx512f", "avx512bw", "avx512dq", "avx512vl"].every((flag) => flags.split(" ").includes(flag));
  } catch {
    return false;
  }
}

/** One thread for each call, and what the library says of itself. */
function describe(library: Library, name: string): Pick<Found, "version" | "named"> {
  const optional = (symbol: string, result: string, args: readonly string[]) => {
    try {
      return library.func(symbol, result, args);
    } catch {
      return () => undefined;
    }
  };
  for (const symbol of ["openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads"]) {
    optional(symbol, "void", [symbol.startsWith("bli") ? "int64" : "int"])(1);
  }
  const config = optional("openblas_get_config", "str", [])() as string | undefined;
  const core = optional("openblas_get_corename", "str", [])() as string | undefined;
  const set = process.env.OPENBLAS_CORETYPE;
  const kernels = core ? `, ${core} kernels${set ? `, OPENBLAS_CORETYPE=${set}` : ""}` : "";
  const version = config && config.split(" ").slice(0, 2).join(" ") + kernels;
  return { version: version ?? "version unknown", named: config !== undefined || name.includes("Accelerate") };
}
