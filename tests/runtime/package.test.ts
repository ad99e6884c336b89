import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeMpi } from "../distributed/mpirun.js";
import { emptyProject, root, run } from "./project.js";

let project: ReturnType<typeof emptyProject>;
beforeAll(() => {
  project = emptyProject();
});
afterAll(() => project?.remove());

describe("the packed package in an empty project", () => {
  test("carries what it needs and nothing else", () => {
    const files = readdirSync(join(project.folder, "node_modules/evenkeel"), { recursive: true }).map(String);
    expect(files).toContain("data/digits.csv.gz");
    expect(files).toContain("LICENSE");
    expect(files.filter((f) => /\.test\.|assembly|^src/.test(f))).toEqual([]);
  });

  test("trains in Node with the same bits for 1 and 2 threads, and on a current Node", () => {
    const here = JSON.parse(run(process.execPath, ["node_main.js"], project.folder));
    expect(here.two).toBe(here.one);
    expect(here.systems).toEqual(["dll", "flax", "keras", "mygrad", "npdl", "puzzlelib"]);
    run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--prefer-offline", "node@26"], project.folder);
    const current = JSON.parse(run(join(project.folder, "node_modules/.bin/node"), ["node_main.js"], project.folder));
    expect(current.node).toMatch(/^26\./);
    expect([current.one, current.two]).toEqual([here.one, here.one]);
  });

  test("its command line trains from the package, with one lossHash on both versions of Node and 1 or 2 threads", () => {
    const cli = join(project.folder, "node_modules/evenkeel/dist/cli/main.js");
    const current = join(project.folder, "node_modules/.bin/node");
    const hash = (node: string, threads: number) => {
      const args = ["train", "--data", "digits", "--norm", "batch", "--seed", "0", "--epochs", "1", "--json"];
      const out = run(node, [cli, ...args, "--threads", String(threads)], project.folder);
      return JSON.parse(out.trim().split("\n").at(-1)!).lossHash as string;
    };
    const first = hash(process.execPath, 1);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect([hash(process.execPath, 2), hash(current, 1), hash(current, 2)]).toEqual([first, first, first]);
  });

  test("without SharedArrayBuffer it runs on one thread, says so once, and gives the same bits", () => {
    const withIt = JSON.parse(run(process.execPath, ["node_main.js"], project.folder));
    const without = ["--import", "data:text/javascript,delete globalThis.SharedArrayBuffer"];
    const child = spawnSync(process.execPath, [...without, "node_main.js"], { cwd: project.folder, encoding: "utf8" });
    expect(child.status).toBe(0);
    expect(child.stderr.match(/SharedArrayBuffer is not available here, so kernels run on one thread/g)).toHaveLength(
      1,
    );
    expect(JSON.parse(child.stdout)).toEqual(withIt);
  });

  test("setBlas says in one line what is missing, and goes on", () => {
    const steps =
      'import { setBlas, ones } from "evenkeel"; console.log(setBlas().message, ones([2, 2]).matmul(ones([2, 2])).sum().item());';
    const child = spawnSync(process.execPath, ["--input-type=module", "-e", steps], {
      cwd: project.folder,
      encoding: "utf8",
    });
    const line = "BLAS: not used, koffi, which calls native libraries, is not installed: npm install koffi";
    expect([child.status, child.stdout, child.stderr]).toEqual([0, `${line} 8\n`, `evenkeel: ${line}\n`]);
  });

  for (const resolution of ["nodenext", "bundler"]) {
    test(`has types under moduleResolution ${resolution}`, () => {
      const compilerOptions = {
        ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
        ...{ target: "es2022", lib: ["es2023", "esnext.disposable", "dom"], types: [], noEmit: true },
        module: resolution === "bundler" ? "esnext" : "nodenext",
        moduleResolution: resolution,
      };
      const config = `tsconfig.${resolution}.json`;
      writeFileSync(join(project.folder, config), JSON.stringify({ compilerOptions, files: ["types.ts"] }));
      run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", config], project.folder);
    });
  }

  test("builds for the browser with Vite, without a trace of Node", () => {
    writeFileSync(
      join(project.folder, "index.html"),
      '<!doctype html><meta charset="utf-8"><script type="module" src="./browser_main.js"></script>',
    );
    run(process.execPath, [join(root, "node_modules/vite/bin/vite.js"), "build", "--logLevel", "warn"], project.folder);
    const assets = join(project.folder, "dist/assets");
    const code = readdirSync(assets).map((f) => readFileSync(join(assets, f), "utf8"));
    expect(code.join("").length).toBeGreaterThan(50_000);
    expect(code.join("")).not.toMatch(/node:|worker_threads|koffi|__vite-browser-external/);
  });

  describeMpi("two ranks", ({ mpirun, environment }) => {
    test("meet, and train by the command line", () => {
      run(
        "npm",
        ["install", "--no-save", "--no-audit", "--no-fund", "--prefer-offline", "koffi@3.3.4"],
        project.folder,
      );
      const program = [
        'import { initDistributed } from "evenkeel/distributed";',
        "const communicator = initDistributed();",
        "const sum = new Float64Array([communicator.rank + 1]);",
        'communicator.allReduce(sum, "sum");',
        'if (communicator.rank === 0) console.log("sum " + sum[0] + " of " + communicator.size);',
      ];
      writeFileSync(join(project.folder, "ranks.js"), program.join("\n"));
      const env = { ...process.env, ...environment, NODE_OPTIONS: "" };
      const job = (...command: string[]) =>
        spawnSync(mpirun, ["-n", "2", ...command], { cwd: project.folder, env, encoding: "utf8", timeout: 60_000 });
      const { status, stdout, stderr } = job(process.execPath, "ranks.js");
      expect([status, stdout, stderr]).toEqual([0, "sum 3 of 2\n", ""]);
      const training = job("node_modules/.bin/evenkeel", "train", "--epochs", "1", "--json");
      expect(training.status, training.stderr).toBe(0);
      expect(JSON.parse(training.stdout.trim().split("\n").at(-1)!).testAccuracy).toBeGreaterThan(0.8);
    });
  });
});
