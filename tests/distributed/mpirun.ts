import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "vite";
import { describe } from "vitest";
import { type InstalledMpi, isInstalled, knownMpis, mpiIsRequired } from "./installed_mpi.js";

export type { InstalledMpi } from "./installed_mpi.js";

/** The suite for each MPI; one that is not installed is skipped, and its title says why. */
export function describeMpi(title: string, body: (mpi: InstalledMpi) => void): void {
  for (const mpi of knownMpis) {
    if (isInstalled(mpi) || mpiIsRequired) describe(`${title}, ${mpi.name}`, () => body(mpi));
    else describe.skip(`${title}, ${mpi.name} (not installed: ${mpi.install})`, () => body(mpi));
  }
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface RunOptions {
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Seconds until the job is killed, which fails the test. Default 60. */
  readonly timeout?: number;
  /** What runs the program. Default Node. */
  readonly by?: readonly string[];
  /** Called with the launcher's process id once it runs. */
  readonly onStart?: (pid: number) => void;
}

/** Runs a program on `ranks` ranks, and waits for its end. */
export function mpirun(mpi: InstalledMpi, ranks: number, program: string, options: RunOptions = {}): Promise<Ended> {
  const { args = [], environment = {}, timeout = 60, by = [process.execPath], onStart } = options;
  const started = performance.now();
  // The test runner's own flags are not for the ranks.
  const env: NodeJS.ProcessEnv = { ...process.env, ...mpi.environment, ...environment, NODE_OPTIONS: "" };
  const child = spawn(mpi.mpirun, ["-n", `${ranks}`, ...by, program, ...args], { env, detached: true });
  let [stdout, stderr, late] = ["", "", false];
  child.stdout.on("data", (text) => {
    stdout += text;
  });
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  const timer = setTimeout(() => {
    late = true;
    process.kill(-child.pid!, "SIGKILL");
  }, timeout * 1000);
  if (child.pid) onStart?.(child.pid);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const seconds = (performance.now() - started) / 1000;
      if (late) reject(new Error(`${mpi.name} did not end within ${timeout} s\n${stdout}\n${stderr}`));
      else resolve({ code, signal, stdout, stderr, seconds });
    });
  });
}

/** The JSON lines that ranks printed, as they came. */
export const jsonLines = <T>({ stdout }: Ended): T[] =>
  stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as T);

export interface Program {
  readonly path: string;
  dispose(): void;
}

/** Bundles a program of this folder from the sources: ranks run JavaScript. */
export async function bundle(file: string): Promise<Program> {
  // Where koffi is found: looked up from the file's own place.
  const cache = new URL("../../node_modules/.cache/", import.meta.url).pathname;
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "evenkeel-mpi-"));
  const conditions = ["evenkeel-source", "node", "import", "default"];
  await build({
    configFile: false,
    logLevel: "error",
    resolve: { conditions },
    ssr: { noExternal: true, external: ["koffi"], resolve: { conditions } },
    build: {
      ssr: new URL(file, import.meta.url).pathname,
      outDir: folder,
      rollupOptions: { output: { entryFileNames: "program.mjs" } },
    },
  });
  return { path: join(folder, "program.mjs"), dispose: () => rmSync(folder, { recursive: true }) };
}
