import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;
export const program = join(root, "dist/cli/main.js");

/** Builds dist again if a source is newer: these tests are about what users run. Test files that run at once build one after the other. */
export function buildIfStale(): void {
  const lock = join(tmpdir(), `evenkeel-build${root.replaceAll("/", "-")}`);
  while (!taken(lock)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  try {
    build();
  } finally {
    rmdirSync(lock);
  }
}

/** A folder as a lock; one that a killed process left behind counts for three minutes. */
function taken(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    const made = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - made > 180_000) rmdirSync(lock);
    return false;
  }
}

function build(): void {
  const newest = (folder: string): number =>
    Math.max(
      ...readdirSync(folder, { withFileTypes: true }).map((entry) => {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) return entry.name === "assembly" ? 0 : newest(path);
        return entry.name.endsWith(".test.ts") ? 0 : statSync(path).mtimeMs;
      }),
      0,
    );
  if (existsSync(program) && statSync(program).mtimeMs > newest(join(root, "src"))) return;
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { cwd: root });
}

export interface Finished {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly done: Promise<Finished>;
  /** Resolves when `test` holds; looks every few milliseconds. */
  until(test: () => boolean): Promise<void>;
  readonly out: () => string;
}

/** Starts Node on a script; it is killed when it takes longer than two minutes. `env` is added to that of this process. */
export function start(
  script: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Running {
  const options = { cwd, timeout: 120_000, killSignal: "SIGKILL", env: { ...process.env, ...env } } as const;
  const child = spawn(process.execPath, [script, ...args], options);
  let [out, err, ended] = ["", "", false];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const done = new Promise<Finished>((resolve) => {
    child.on("close", (code) => {
      ended = true;
      resolve({ code, out, err });
    });
  });
  const until = async (test: () => boolean): Promise<void> => {
    while (!test()) {
      if (ended) throw new Error(`the process ended first: ${out}${err}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return { child, done, until, out: () => out };
}
