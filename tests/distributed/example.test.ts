import { spawnSync } from "node:child_process";
import { beforeAll, expect, test } from "vitest";
import { buildIfStale } from "../cli/built.js";

beforeAll(buildIfStale);

/** In a Node of its own: its workers take `evenkeel` as it is built. */
function run(ranks: number): { loss: number; accuracy: number } {
  const code = `import { main } from "./examples/data_parallel.js";
    console.log(JSON.stringify(await main({ ranks: ${ranks}, epochs: 2, log: () => {} })));`;
  const root = new URL("../../", import.meta.url).pathname;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { cwd: root });
  expect(String(stderr)).toBe("");
  return JSON.parse(String(stdout));
}

test("examples/data_parallel.js: three ranks learn what one does", () => {
  const [one, three] = [run(1), run(3)];
  expect(one.accuracy).toBeGreaterThan(0.85);
  // Sums of float32 gradients in another order: after 90 steps of Adam the loss differs by 1e-8.
  expect(Math.abs(three.loss - one.loss)).toBeLessThan(1e-6);
});
