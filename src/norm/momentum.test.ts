import { describe, expect, test } from "vitest";
import { OptionError } from "../base/errors.js";
import { checkMomentum, type Momentum, momentumWeight } from "./momentum.js";

function follow(momentum: Momentum, values: readonly number[]): number {
  let running = 0;
  for (const [i, v] of values.entries()) {
    const w = momentumWeight(momentum, i + 1);
    running = (1 - w) * running + w * v;
  }
  return running;
}

describe("momentum", () => {
  test("weighs the new value", () => {
    expect(follow(0.25, [8])).toBe(2);
    expect(follow(0.25, [8, 4])).toBe(2.5);
    expect(follow(1, [8, 4])).toBe(4);
    expect(follow(0, [8, 4])).toBe(0);
  });

  test("null averages all batches alike", () => {
    expect(follow(null, [3, 5, 10])).toBeCloseTo(6, 14);
  });

  test("a schedule gets the number of the batch, from 1", () => {
    const seen: number[] = [];
    follow(
      (n) => {
        seen.push(n);
        return Math.max(1 / n, 0.4);
      },
      [1, 2, 3, 4],
    );
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  test("what is not a weight is refused", () => {
    for (const bad of [-0.1, 1.1, Number.NaN, "0.1", {}, undefined, true]) {
      expect(() => checkMomentum("BatchNorm2d", bad)).toThrow(OptionError);
    }
    expect(() => checkMomentum("BatchNorm2d", "0.1")).toThrow(/BatchNorm2d: momentum must be .* got "0.1"/);
    for (const good of [0, 0.1, 1, null]) expect(checkMomentum("BatchNorm2d", good)).toBe(good);
    expect(() => momentumWeight((n) => 2 / n, 1)).toThrow(/schedule's value at batch 1 must be .* got 2/);
    expect(() => momentumWeight(() => Number.NaN, 3)).toThrow(OptionError);
  });
});
