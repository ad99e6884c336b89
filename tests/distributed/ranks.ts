import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "vite";
import { abortGroup, type GroupOptions, sharedGroup } from "../../src/distributed/index.js";

/** What a rank's job came to: its result, or the error that it threw. */
export type Outcome<T = unknown> = { readonly value: T } | { readonly error: string; readonly message: string };

export interface Ranks {
  /** Runs `job` of rank.ts on `size` workers; `inputs` has what each gets. A worker that dies aborts the group. */
  run<T>(size: number, job: string, inputs: readonly unknown[], options?: GroupOptions): Promise<Outcome<T>[]>;
  dispose(): void;
}

/** Bundles rank.ts from the sources, since a worker runs JavaScript. */
export async function prepareRanks(): Promise<Ranks> {
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-ranks-"));
  const conditions = ["evenkeel-source", "node", "import", "default"];
  await build({
    configFile: false,
    logLevel: "error",
    resolve: { conditions },
    ssr: { noExternal: true, resolve: { conditions } },
    build: {
      ssr: new URL("./rank.ts", import.meta.url).pathname,
      outDir: folder,
      rollupOptions: { output: { entryFileNames: "rank.mjs" } },
    },
  });
  return {
    run<T>(size: number, job: string, inputs: readonly unknown[], options?: GroupOptions) {
      const group = sharedGroup(size, options);
      const start = (rank: number) =>
        new Promise<Outcome<T>>((resolve) => {
          const workerData = { group, rank, job, input: inputs[rank] };
          // Without execArgv a worker inherits the test runner's loader flags.
          const worker = new Worker(join(folder, "rank.mjs"), { workerData, execArgv: [] });
          let outcome: Outcome<T> = { error: "Exit", message: "the worker ended without a result" };
          worker.on("message", (message: Outcome<T>) => {
            outcome = message;
          });
          worker.on("error", (error: Error) => {
            outcome = { error: error.name, message: error.message };
          });
          worker.on("exit", (code) => {
            if (code !== 0) abortGroup(group, `the worker of rank ${rank} ended with code ${code}`);
            resolve(outcome);
          });
        });
      return Promise.all(Array.from({ length: size }, (_, rank) => start(rank)));
    },
    dispose: () => rmSync(folder, { recursive: true }),
  };
}

export const valuesOf = <T>(outcomes: readonly Outcome<T>[]): T[] =>
  outcomes.map((o, rank) => {
    if ("error" in o) throw new Error(`rank ${rank}: ${o.error}: ${o.message}`);
    return o.value;
  });
