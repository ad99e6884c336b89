import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const main = fileURLToPath(new URL("../../bench/tfjs/main.js", import.meta.url));

const bench = (...args: string[]): Promise<{ code: number; out: string; err: string }> =>
  new Promise((done) => {
    execFile(process.execPath, [main, ...args], { timeout: 200_000 }, (error, out, err) => {
      done({ code: error ? Number(error.code) : 0, out, err });
    });
  });

test.each([
  [["--only", "batchh train"], /--only "batchh train" is the name of no cell/],
  [["--backend", "webgl"], /--backend is cpu or wasm; got "webgl"/],
  [["--threads", "0"], /--threads is a whole number of at least 1; got "0"/],
  [["--quik"], /'--quik'/],
])("bench/tfjs %j is refused in one line", async (args, said) => {
  const { code, err } = await bench(...args);
  expect(code).toBe(2);
  expect(err).toMatch(said);
  expect(err.trim().split("\n")).toHaveLength(1);
});

test("bench/tfjs times both libraries' layers after checking that they agree", async () => {
  const { code, out, err } = await bench(
    "--quick",
    "--threads",
    "1",
    "--only",
    "[64,512] train",
    "--only",
    "batch fit",
  );
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const rows = out.split("\n").filter((line) => /^\| (cpu|wasm) \|/.test(line));
  expect(rows).toHaveLength(6);
  for (const row of rows) expect(row).toMatch(/\| \d+\.\d\d \| \d+\.\d\d \| \d+\.\d \|$/);
});
