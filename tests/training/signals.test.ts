import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readState } from "../../src/train/checkpoint/checkpoint.js";
import { buildIfStale, start } from "../cli/built.js";

const script = new URL("./interruptible.mjs", import.meta.url).pathname;
let folder: string;

beforeAll(buildIfStale, 180_000);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const lastStep = (out: string): number => Number(/step (\d+)\n$/.exec(out)?.[1]);

describe("signals in training", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s finishes the step, saves a checkpoint and exits with %i", async (signal, code) => {
    const path = join(folder, "a.evk");
    const run = start(script, [path, "-"], folder);
    await run.until(() => run.out().includes("step 5\n"));
    run.child.kill(signal);
    const { code: exit, out, err } = await run.done;
    expect(exit).toBe(code);
    expect(err).toBe(`Stopped by ${signal} after step ${lastStep(out)}; checkpoint in ${path}\n`);
    expect(readState(path).step).toBe(lastStep(out));
    expect(readdirSync(folder)).toEqual(["a.evk"]);
  });

  it("a second Ctrl-C ends at once, in the middle of a step", async () => {
    const path = join(folder, "a.evk");
    const run = start(script, [path, "3"], folder);
    await run.until(() => run.out().includes("step 3\n"));
    run.child.kill("SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(run.child.exitCode).toBeNull();
    run.child.kill("SIGINT");
    const { code, out } = await run.done;
    expect(code).toBe(130);
    expect(lastStep(out)).toBe(3);
    expect(existsSync(path)).toBe(false);
  });

  it("without a checkpoint path it ends just so", async () => {
    const run = start(script, ["-", "-"], folder);
    await run.until(() => run.out().includes("step 2\n"));
    run.child.kill("SIGINT");
    const { code, err } = await run.done;
    expect(code).toBe(130);
    expect(err).toMatch(/^Stopped by SIGINT after step \d+\n$/);
  });
});
