import { spawnSync } from "node:child_process";
import { beforeAll, expect, test } from "vitest";
import { buildIfStale } from "../cli/built.js";
import { describeMpi, mpirun } from "./mpirun.js";

beforeAll(buildIfStale);

const example = new URL("../../examples/distributed_digits.js", import.meta.url).pathname;

interface Said {
  readonly losses: number[];
  readonly accuracy: number;
  readonly ranks: number;
}

function read(text: string): Said {
  const losses = [...text.matchAll(/loss ([\d.]+)/g)].map((m) => Number(m[1]));
  const [, ranks, accuracy] = /(\d+) ranks?: test accuracy ([\d.]+) %/.exec(text)!;
  return { losses, accuracy: Number(accuracy), ranks: Number(ranks) };
}

let alone: Said | null = null;
const byItself = (): Said => {
  alone ??= read(spawnSync(process.execPath, [example], { encoding: "utf8" }).stdout);
  return alone;
};

test("examples/distributed_digits.js: one process learns the digits", () => {
  const { ranks, accuracy, losses } = byItself();
  expect([ranks, losses.length]).toEqual([1, 5]);
  expect(accuracy).toBeGreaterThan(93);
});

describeMpi("examples/distributed_digits.js", (mpi) => {
  test("two ranks learn what one does, and one of them says so", async () => {
    const { code, stdout, stderr } = await mpirun(mpi, 2, example);
    expect([code, stderr]).toEqual([0, ""]);
    const { ranks, accuracy, losses } = read(stdout);
    expect([ranks, losses.length]).toEqual([2, 5]);
    // Printed to four digits, after 115 steps that differ by the order in which float32 gradients are added.
    for (const [i, loss] of losses.entries()) expect(Math.abs(loss - byItself().losses[i]!)).toBeLessThan(2e-3);
    expect(Math.abs(accuracy - byItself().accuracy)).toBeLessThan(1);
  });
});
