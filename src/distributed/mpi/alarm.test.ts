import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import ts from "typescript";
import { expect, test } from "vitest";
import { withAlarm } from "./alarm.js";

const source = readFileSync(new URL("./alarm.ts", import.meta.url), "utf8");
const compiled = ts.transpile(source, { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 });

/** A program that stays in one call for so many milliseconds, as MPI_Init does, with an alarm after `alarm` seconds. */
const run = (milliseconds: number, alarm = 0.5) =>
  spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `${compiled}
      const wait = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${milliseconds});
      withAlarm(${alarm}, "nobody came", wait);
      setTimeout(() => console.log("done"), 700);`,
    ],
    { encoding: "utf8", timeout: 20_000 },
  );

test("who waits too long in one call ends with a reason", () => {
  const { signal, stdout, stderr } = run(10_000);
  expect([signal, stdout, stderr]).toEqual(["SIGKILL", "", "nobody came\n"]);
});

test.each([
  ["who does not", 1, 0.5],
  ["who may wait for months", 500, 1e7],
  ["who may wait for ever", 500, Number.POSITIVE_INFINITY],
])("%s goes on undisturbed", (_who, milliseconds, alarm) => {
  const { status, stdout, stderr } = run(milliseconds, alarm);
  expect([status, stdout, stderr]).toEqual([0, "done\n", ""]);
});

/** MPI_Init writes to the environment, which a thread that starts reads: that ends in a segmentation fault now and then. */
test("the call begins once the alarm's thread is up, and may change the environment", () => {
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { createRequire } from "node:module";
      ${compiled}
      const libc = createRequire(${JSON.stringify(import.meta.url)})("koffi").load(null);
      const setenv = libc.func("setenv", "int", ["str", "str", "int"]);
      const clearenv = libc.func("clearenv", "int", []);
      const body = () => {
        // A thread takes some 10 ms to start. What was freed is written over at once.
        for (const until = performance.now() + 20; performance.now() < until; ) {
          clearenv();
          for (let i = 0; i < 100; i++) setenv("EVENKEEL_" + i, "\\x01".repeat(8 * i), 1);
        }
      };
      for (let round = 0; round < 50; round++) withAlarm(60, "", () => body());`,
    ],
    { encoding: "utf8", timeout: 60_000 },
  );
  expect([status, signal, stderr]).toEqual([0, null, ""]);
});

test("what the call gives and throws is handed on", () => {
  expect(withAlarm(60, "", () => 7)).toBe(7);
  expect(() =>
    withAlarm(60, "", () => {
      throw new RangeError("no MPI");
    }),
  ).toThrow("no MPI");
});
