import { afterEach, expect, test } from "vitest";
import { Storage } from "../../memory/storage.js";
import { combine } from "../wasm/combine.js";
import { meanwhile } from "./meanwhile.js";
import { launch, setThreads, startThreads, workersReady } from "./pool.js";

const LONG = 1e6;
const unit = 64;
const fill = (y: Storage, value: number, work = LONG) =>
  launch("fill", Math.ceil(y.length / unit), work, [y.ptr, y.length, value, unit]);

afterEach(() => setThreads(1));

const bothWays = test.each([1, 3]);

bothWays("long kernels pause, and the kernels of a pause leave theirs alone, on %i threads", async (threads) => {
  setThreads(threads);
  startThreads();
  while (workersReady() < threads - 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const [y, a, b] = [200_003, 70_001, 70_001].map((n) => new Storage(n, "float32")) as [Storage, Storage, Storage];
  fill(a, 1);
  let pauses = 0;
  const stop = meanwhile(() => {
    pauses++;
    fill(b, pauses);
    combine("sum", [a, b], b);
  });
  for (let round = 1; round <= 50; round++) {
    pauses = 0;
    fill(y, round);
    expect(y.view.every((v) => v === round)).toBe(true);
    if (threads === 1) expect(pauses).toBe(9);
    if (pauses > 0) expect(b.view.every((v) => v === pauses + 1)).toBe(true);
  }
  pauses = 0;
  fill(y, -1, 1000);
  if (threads === 1) expect(pauses).toBe(0);
  stop();
  fill(y, -2);
  expect(pauses).toBe(0);
  for (const s of [y, a, b]) s.release();
});

bothWays("what a pause throws comes out when the kernel is done, on %i threads", (threads) => {
  setThreads(threads);
  const y = new Storage(200_003, "float32");
  let calls = 0;
  meanwhile(() => {
    calls++;
    throw new Error("a rank is gone");
  });
  expect(() => {
    // With several threads the others may leave no piece to this one.
    for (let round = 0; round < 1000; round++) fill(y, 7);
  }).toThrow("a rank is gone");
  expect(y.view.every((v) => v === 7)).toBe(true);
  fill(y, 8);
  expect([y.view.every((v) => v === 8), calls]).toEqual([true, 1]);
  y.release();
});
