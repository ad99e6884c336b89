import { expect, test } from "vitest";
import { stepMemory } from "../../src/cli/step_memory.js";
import { stepModels } from "../../src/cli/step_models.js";
import { setThreads } from "../../src/kernels/threads/pool.js";
import { heap } from "../../src/memory/heap.js";

const built = (name: string) => stepModels.find((m) => m.name === name)!.build(1);

// A step of digits is so small that a convolution's scratch memory, half a MiB, weighs beside it.
test.each([
  ["digits-cnn", 1.5],
  ["cnn", 1.2],
  ["mlp", 1.2],
  ["transformer", 1.2],
])("%s needs little more memory than what must be there", (name, most) => {
  setThreads(2);
  const step = built(name);
  step.step();
  const { peak, planned, saved } = stepMemory(step);
  expect(saved).toBeGreaterThan(0);
  expect(peak / planned).toBeLessThanOrEqual(most);
});

test("a step leaves as much memory alive and reserved as the one before", () => {
  const step = built("digits-cnn");
  for (let i = 0; i < 3; i++) step.step();
  const { liveBytes, liveBlocks, reservedBytes } = heap.stats;
  for (let i = 0; i < 5; i++) step.step();
  expect(heap.stats).toMatchObject({ liveBytes, liveBlocks, reservedBytes });
});

test("between a normalization and a ReLU one tensor is kept, not two", () => {
  // Saved of the first block, in floats a pixel: the norm's input (32), the ReLU's output (32), and the pool's index (8).
  const step = built("cnn");
  const pixels = step.batch.input.size;
  const { saved } = stepMemory(step);
  const first = 4 * pixels * (32 + 32 + 8 + 8);
  const second = 4 * (pixels / 4) * (64 + 64 + 16 + 16);
  expect(saved / (first + second)).toBeLessThan(1.02);
});
