import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { memoryStats, nn, randn } from "../../src/index.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

test("what is dropped without scope or dispose returns to the heap by garbage collection, graph and all", async () => {
  const layer = new nn.Linear(64, 64);
  const before = memoryStats().liveBytes;
  const work = () => {
    for (let i = 0; i < 20; i++)
      layer
        .forward(randn([64, 64]))
        .tanh()
        .sum();
  };
  work();
  const dropped = memoryStats().liveBytes - before;
  expect(dropped).toBeGreaterThan(20 * 3 * 64 * 64 * 4);
  // The layer itself remembers its last input and output for `backward`; a small call takes their place.
  layer.forward(randn([1, 64]));
  let left = dropped;
  for (let turn = 0; turn < 50 && left > dropped / 100; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 10));
    left = memoryStats().liveBytes - before;
  }
  expect(left).toBeLessThan(dropped / 100);
});
