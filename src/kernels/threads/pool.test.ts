import { expect, test } from "vitest";
import { Storage } from "../../memory/storage.js";
import { awaitThreads, getThreads, launch, setThreads, startThreads, workersReady } from "./pool.js";

const fill = (y: Storage, value: number, unit = 64) =>
  launch("fill", Math.ceil(y.length / unit), y.length, [y.ptr, y.length, value, unit]);

test("a job covers every unit once, before the workers are up, while they start, and after", async () => {
  setThreads(3);
  const y = new Storage(200_003, "float32");
  startThreads();
  for (let round = 1; round <= 2000; round++) {
    fill(y, round);
    expect(y.view.every((v) => v === round)).toBe(true);
    if (round === 20) while (workersReady() < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    if (round > 60 && round % 100 !== 0) round += 20;
  }
  y.release();
});

test("a smaller number of threads, then a larger one", () => {
  const y = new Storage(200_000, "float32");
  for (const [round, n] of [2, 1, 3, 2, 4, 1, 4].entries()) {
    setThreads(n);
    for (let i = 0; i < 50; i++) fill(y, round * 50 + i);
    expect(y.view.every((v) => v === round * 50 + 49)).toBe(true);
  }
  y.release();
});

test("workers that fell asleep wake for the next job", async () => {
  const y = new Storage(200_000, "float32");
  for (let round = 0; round < 5; round++) {
    await new Promise((resolve) => setTimeout(resolve, 30));
    fill(y, round);
    expect(y.view.every((v) => v === round)).toBe(true);
  }
  y.release();
});

test("awaitThreads returns once those that were started are up", () => {
  setThreads(6);
  startThreads();
  awaitThreads();
  expect(workersReady()).toBe(5);
});

test("thread counts outside [1, 64] are refused by name", () => {
  for (const n of [0, -1, 1.5, 65, Number.NaN]) expect(() => setThreads(n)).toThrow(/whole number from 1 to 64/);
  setThreads(1);
  expect(getThreads()).toBe(1);
});
