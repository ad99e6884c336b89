import { describe, expect, test } from "vitest";
import type { Combination } from "../../base/communicator.js";
import { Random } from "../../base/random.js";
import { Storage } from "../../memory/storage.js";
import { setThreads } from "../threads/pool.js";
import { combine } from "./combine.js";

const expected: Readonly<Record<Combination, (values: readonly number[]) => number>> = {
  sum: (values) => values.reduce((a, b) => a + b),
  max: (values) => Math.max(...values),
  min: (values) => Math.min(...values),
};

/** Index of the first number that is another, also by the sign of a 0; -1 where all are the same. */
const firstOther = (want: ArrayLike<number>, got: ArrayLike<number>): number =>
  Array.from(want).findIndex((v, i) => !Object.is(v, got[i]));

describe.each(["float32", "float64"] as const)("combine, %s", (dtype) => {
  // Around the vectors' width, the units' 8 KiB, and long enough for a second thread.
  for (const length of [0, 1, 2, 3, 4, 5, 7, 1023, 2049, 70_001]) {
    test(`${length} elements of 1, 2, 3 and 5 parts`, () => {
      const random = new Random(length + 1);
      for (const how of ["sum", "max", "min"] as const) {
        for (const count of [1, 2, 3, 5]) {
          const parts = Array.from({ length: count }, () => new Storage(length, dtype));
          // Of such different sizes that a sum in float32 would show.
          for (const part of parts) for (let i = 0; i < length; i++) part.view[i] = random.normal() * 10 ** (i % 9);
          if (length > 4) parts.at(-1)!.view.set([Number.NaN, -0, 0, Number.POSITIVE_INFINITY]);
          const make = dtype === "float32" ? Float32Array : Float64Array;
          const want = new make(length).map((_: number, i: number) => expected[how](parts.map((p) => p.view[i]!)));
          for (const threads of [1, 2]) {
            setThreads(threads);
            const y = new Storage(length, dtype);
            combine(how, parts, y);
            expect(firstOther(want, y.view)).toBe(-1);
            y.release();
          }
          combine(how, parts, parts.at(-1)!);
          expect(firstOther(want, parts.at(-1)!.view)).toBe(-1);
          for (const part of parts) part.release();
        }
      }
    });
  }
});
