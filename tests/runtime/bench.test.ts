import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("../../bench/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "evenkeel-bench-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

function bench(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = { ...process.env, BENCH_PYTHON: join(folder, "no-python") };
  return new Promise((done) => {
    execFile(process.execPath, [main, ...args, "--out", folder], { env, timeout: 50_000 }, (error, out, err) => {
      done({ code: error ? Number(error.code) : 0, out, err });
    });
  });
}

test.each([
  [["--only", "batch first hugeous"], /--only "batch first hugeous" is the name of no cell; --list prints them all/],
  [["--threads", "0"], /--threads takes a whole number from 1 to \d+, the cores of this machine; got "0"/],
  [["--threads", String(cpus().length + 1)], /--threads takes a whole number from 1 to/],
  [["--peers", "torch,caffe"], /--peers knows .*; got "caffe"/],
  [["--quik"], /'--quik'/],
])("%j ends with one line and code 2", async (args, line) => {
  const { code, err } = await bench(...args);
  expect(code).toBe(2);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toMatch(line);
});

test("a run checks, times, and writes its files; a peer that is missing is told in one line", async () => {
  const { code, out, err } = await bench("--quick", "--threads", "1", "--only", "rms last small", "--peers", "torch");
  expect(err).toBe("");
  expect(code).toBe(0);
  expect(out).toMatch(/torch takes no part: .*no-python is not there/);
  const { runs } = JSON.parse(readFileSync(join(folder, "results.json"), "utf8"));
  expect(runs[0].rows.map((row: { name: string }) => row.name)).toEqual([
    ...["rms last small forward", "rms last small backward", "rms last small eval"],
  ]);
  for (const row of runs[0].rows) {
    expect(row.ours.ms).toBeGreaterThan(0);
    // The least traffic can be moved faster than a copy moves it only by what the cache spares.
    expect(row.share).toBeGreaterThan(0.001);
  }
  expect(readFileSync(join(folder, "report.html"), "utf8")).toContain("rms last small backward");
});
