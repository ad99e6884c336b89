import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const main = fileURLToPath(new URL("../../bench/gpu/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "evenkeel-bench-gpu-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

// The software GPU that comes with Debian's chromium, where the environment names no other driver.
const software = "/usr/lib/chromium/vk_swiftshader_icd.json";
const driver = process.env.VK_DRIVER_FILES ?? (existsSync(software) ? software : null);
const environment = {
  ...(driver ? { VK_DRIVER_FILES: driver } : {}),
  ...{ XDG_RUNTIME_DIR: tmpdir(), BENCH_PYTHON: join(folder, "no-python") },
};

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const start = (command: string, args: string[], env: NodeJS.ProcessEnv): Promise<Ended> =>
  new Promise((done) => {
    execFile(command, args, { env, timeout: 200_000, cwd: folder }, (error, out, err) => {
      done({ code: error ? Number(error.code) : 0, out, err });
    });
  });

const bench = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> =>
  start(process.execPath, [main, ...args, "--out", folder], { ...process.env, ...environment, ...env });

test.each([
  [["--only", "batch first hugeous"], /--only "batch first hugeous" is the name of no cell; --list prints them all/],
  [["--pack", ""], /--pack takes a folder to write; got ""/],
  [["--pack", main], /--pack takes a folder; .* is a file/],
  [["--quik"], /'--quik'/],
])("%j ends with one line and code 2", async (args, line) => {
  const { code, err } = await bench(args);
  expect(code).toBe(2);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toMatch(line);
});

test("without an adapter it says so in one line", async () => {
  const { code, err } = await bench(["--quick"], { VK_DRIVER_FILES: join(folder, "none.json") });
  expect(code).toBe(1);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toMatch(/no adapter was found/);
});

test("a run checks, times, and writes its files; torch's absence and software are told", async () => {
  const { code, out } = await bench(["--quick", "--only", "rms last", "--only", "adamw"]);
  expect(code).toBe(0);
  expect(out).toMatch(/torch takes no part: .*no-python is not there/);
  const results = JSON.parse(readFileSync(join(folder, "results.json"), "utf8"));
  expect(out.includes("This device is software")).toBe(results.device.software);
  expect(results.rows.map((row: { name: string }) => row.name)).toEqual([
    ...["rms last tiny forward", "rms last tiny backward", "rms last tiny eval", "adamw tiny update"],
  ]);
  for (const row of results.rows) {
    expect(row.ours.ms).toBeGreaterThan(0);
    expect(row.share).toBeGreaterThan(0);
    expect(row.errors.ours.error).toBeLessThan(1e-6);
  }
  expect(readFileSync(join(folder, "results.md"), "utf8")).toContain("| rms last tiny backward |");
});

test("the shaders of a row read x once and write y once; of a long row, x and dy twice for its gradients", async () => {
  const { code, out } = await bench(["--quick", "--traffic", "--only", "rms last", "--only", "layer first backward"]);
  expect(code).toBe(0);
  const [, long] = out.split("layer first tiny backward");
  const readers = long!
    .split("\nrms")[0]!
    .split("\n")
    .filter((line) => line.includes(": x "));
  expect(readers.map((line) => line.trim().split(":")[0])).toEqual(["row_norm_grad_columns", "row_norm_grad_dx"]);
  expect(out).toMatch(/rms last tiny forward; 1 MB; 1\.00\n {4}row_norm: .*: x 1\.00, y 1\.00/);
  expect(out).toMatch(/rms last tiny backward; 1 MB; 1\.00\n {4}row_norm_grad: .*: x 1\.00, dy 1\.00, dx 1\.00/);
});

test.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "what it packs runs by itself, in an empty environment (Linux on x64 only)",
  async () => {
    const to = join(folder, "packed");
    const packed = await bench(["--pack", to]);
    expect(packed.err).toBe("");
    expect(statSync(join(to, "payload.tar.gz")).size).toBeLessThan(60e6);
    const args = ["--quick", "--only", "rms last eval", "--out", folder];
    const { code, out } = await start(join(to, "run.sh"), args, driver ? { VK_DRIVER_FILES: driver } : {});
    expect(code).toBe(0);
    expect(out).toMatch(/^rms last tiny eval +\d/m);
  },
);
