import { expect, test } from "vitest";
import { type ProfileEntry, profile, randn, scope } from "../index.js";
import { SGD } from "../optim/index.js";
import { probe } from "./probe.js";

const leaf = (shape: number[]) => {
  const t = randn(shape);
  t.requiresGrad = true;
  return t;
};
const find = (entries: readonly ProfileEntry[], op: string, phase: string) =>
  entries.find((e) => e.op === op && e.phase === phase);

test("an entry for each op and phase, with its calls and the bytes that go in and out", () => {
  const [x, w] = [leaf([3, 4]), leaf([4, 5])];
  const optimizer = new SGD([w], { momentum: 0.5 });
  const { entries, milliseconds, peakBytes } = profile(() =>
    scope(() => {
      x.matmul(w).add(1).add(2).sum().backward();
      optimizer.step();
    }),
  );
  expect(find(entries, "matmul", "forward")).toMatchObject({ calls: 1, bytes: 4 * (12 + 20 + 15) });
  expect(find(entries, "add", "forward")).toMatchObject({ calls: 2, bytes: 2 * 4 * (15 + 1 + 15) });
  // dy, what was saved, and a gradient for each operand, which is made of a product each.
  const back = find(entries, "matmul", "backward")!;
  expect(back).toMatchObject({ calls: 1, bytes: 4 * (15 + 12 + 20 + 12 + 20) });
  expect(back.inside.map((e) => [e.op, e.calls])).toContainEqual(["matmul", 2]);
  // Parameter, gradient and velocity.
  expect(find(entries, "SGD", "update")).toMatchObject({ calls: 1, bytes: 3 * 4 * 20 });
  const sum = entries.reduce((total, e) => total + e.milliseconds, 0);
  expect(sum).toBeLessThanOrEqual(milliseconds);
  expect(entries.map((e) => e.milliseconds)).toEqual(entries.map((e) => e.milliseconds).sort((a, b) => b - a));
  expect(peakBytes).toBeGreaterThan(0);
});

test("an op that throws is closed, and the probe is taken away", () => {
  const x = leaf([2]);
  expect(() => profile(() => x.add(randn([3])))).toThrow(/broadcast/);
  expect(probe).toBe(null);
  const { entries } = profile(() => {
    expect(() => x.add(randn([3]))).toThrow();
    x.mul(2);
  });
  expect(entries.map((e) => e.op).sort()).toEqual(["add", "mul"]);
});

test("a profile inside a profile keeps its ops to itself", () => {
  const x = randn([2]);
  const outer = profile(() => {
    x.exp();
    expect(profile(() => x.sin()).entries.map((e) => e.op)).toEqual(["sin"]);
    x.cos();
  });
  expect(outer.entries.map((e) => e.op).sort()).toEqual(["cos", "exp"]);
});
