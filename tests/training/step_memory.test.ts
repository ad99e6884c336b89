import { expect, test } from "vitest";
import { stepMemory } from "../../src/cli/step_memory.js";
import { stepModels } from "../../src/cli/step_models.js";
import { setThreads } from "../../src/kernels/threads/pool.js";
import { heap } from "../../src/memory/heap.js";

const built = (name: string) => stepModels.find((m) => m.name === name)!.build(1);

const MIB = 2 ** 20;

// Kernels take scratch memory that does not shrink with the model: beside a step of digits, 1.3 MiB, that of convolution
// counts on its own.
test.each([
  ["digits-cnn", 2 * MIB],
  ["cnn", 0],
  ["mlp", 0],
  ["transformer", 0],
])("%s needs at most a fifth more memory than what must be there", (name, scratch) => {
  setThreads(2);
  const step = built(name);
  step.step();
  const { peak, planned, saved } = stepMemory(step);
  expect(saved).toBeGreaterThan(0);
  expect(peak).toBeLessThanOrEqual(1.2 * planned + scratch);
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
