import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { format } from "node:util";
import ts from "typescript";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import * as data from "./index.js";

const home = process.cwd();
let folder: string;

/** The folders that the guide reads from, with one image in each file. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-guide-"));
  mkdirSync(join(folder, "data/mnist"), { recursive: true });
  mkdirSync(join(folder, "data/cifar-10-batches-bin"));
  for (const part of ["train", "t10k"]) {
    const images = new Uint8Array(16 + 28 * 28);
    images.set([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]);
    writeFileSync(join(folder, `data/mnist/${part}-images-idx3-ubyte`), images);
    writeFileSync(join(folder, `data/mnist/${part}-labels-idx1-ubyte`), Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 1, 7));
  }
  for (const name of ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]) {
    writeFileSync(join(folder, `data/cifar-10-batches-bin/${name}.bin`), new Uint8Array(3073));
  }
  process.chdir(folder);
});

afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true });
});

const guide = readFileSync(new URL("../../docs/data.md", import.meta.url), "utf8");
const blocks = [...guide.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);

test.each(blocks)("docs/data.md prints what it says: %s", (code) => {
  const said = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)/g)].map((match) => match[1]);
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...values) => {
    printed.push(format(...values));
  });
  const { outputText } = ts.transpileModule(code, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  const names: string[] = [];
  new Function("require", "exports", outputText)((name: string) => {
    names.push(name);
    return data;
  }, {});
  log.mockRestore();
  expect(names).toEqual(["evenkeel/data"]);
  expect(printed).toEqual(said);
});

test("the guide quotes the statistics of the digits", () => {
  const { mean, std } = data.channelStatistics(data.digits().train);
  expect(guide).toContain(`{ mean: [${cut(mean[0]!)}...], std: [${cut(std[0]!)}...] }`);
});

const cut = (v: number): string => String(v).slice(0, 6);
