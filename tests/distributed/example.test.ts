import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildIfStale } from "../cli/built.js";

const folder = mkdtempSync(join(tmpdir(), "evenkeel-example-"));
beforeAll(buildIfStale);
afterAll(() => rmSync(folder, { recursive: true }));

/** In a Node of its own: its workers take `evenkeel` as it is built, without the test runner's flags. */
function run(ranks: number): { loss: number; accuracy: number } {
  const script = join(folder, "run.mjs");
  const example = new URL("../../examples/data_parallel.js", import.meta.url);
  const call = `await main({ ranks: ${ranks}, epochs: 2, log: () => {} })`;
  writeFileSync(script, `import { main } from "${example}";\nconsole.log(JSON.stringify(${call}));\n`);
  const { stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

test("examples/data_parallel.js: three ranks learn what one does", () => {
  const [one, three] = [run(1), run(3)];
  expect(one.accuracy).toBeGreaterThan(0.85);
  // Sums of float32 gradients in another order: after 90 steps of Adam the loss differs by 1e-8.
  expect(Math.abs(three.loss - one.loss)).toBeLessThan(1e-6);
});
