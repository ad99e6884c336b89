import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { summariseTimes } from "../../src/cli/step_times.js";
import { buildIfStale, program, start } from "./built.js";

let folder: string;

beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bench = (...args: string[]) => start(program, ["bench", ...args], folder).done;

describe("evenkeel bench", () => {
  it("times a named step and ends with JSON", async () => {
    const { code, out, err } = await bench("--only", "digits-cnn", "--steps", "3", "--threads", "1", "--json");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^digits-cnn +\d+\.\d\d +\d+ %/m);
    const { results } = JSON.parse(out.trimEnd().split("\n").at(-1)!);
    expect(results).toHaveLength(1);
    expect(results[0]).toMatchObject({ name: "digits-cnn", steps: 3 });
    expect(results[0].median).toBeGreaterThan(0);
    expect(results[0].memory.peak).toBeGreaterThan(results[0].memory.saved);
    expect(existsSync(join(folder, "runs"))).toBe(false);
  });

  it("--profile shows each op and writes a page that loads nothing", async () => {
    const { code, out } = await bench("--only", "digits-cnn", "--steps", "2", "--profile", "--out", "here");
    expect(code).toBe(0);
    for (const row of ["conv, forward", "conv, backward", "Adam, update", "outside of ops"]) expect(out).toContain(row);
    const page = readFileSync(join(folder, "here/profile.html"), "utf8");
    expect(page).toContain('<div class="bar backward"');
    expect(page).not.toMatch(/<script|src=|href="http|url\(/);
    expect(JSON.parse(readFileSync(join(folder, "here/bench.json"), "utf8")).results[0].profile.entries).not.toEqual(
      [],
    );
  });

  it.each([
    [["--only", "mpl"], /Did you mean "mlp"\?/],
    [["--threads", "0"], /whole number of at least 1/],
    [
      ["--threads", String(availableParallelism() + 1)],
      new RegExp(`This machine runs ${availableParallelism()} at a time`),
    ],
    [["--steps", "0"], /whole number of at least 1/],
    [["--out", "/dev/null/x", "--quick"], /folder/],
  ])("%j is refused in one line", async (args, message) => {
    const { code, out, err } = await bench(...args);
    expect(code).toBe(args[0] === "--out" ? 1 : 2);
    expect(out).toBe("");
    expect(err).toMatch(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("times", () => {
  it("quartiles of a run, by straight lines between neighbours", () => {
    expect(summariseTimes([4, 1, 3, 2])).toMatchObject({ median: 2.5, spread: (3.25 - 1.75) / 2.5, disturbed: true });
    expect(summariseTimes([10, 10, 11, 10, 50])).toMatchObject({ median: 10, disturbed: false });
  });
});
