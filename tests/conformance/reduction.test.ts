import { expect, test } from "vitest";
import { kernels } from "../../src/kernels/dispatch.js";
import type { ReduceOp, ReduceView } from "../../src/kernels/kernel_set.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const ops: ReduceOp[] = ["sum", "max", "min", "prod", "sumSquares", "sumAbs"];
const view = (outer: number, reduce: number, inner: number): ReduceView => ({ outer, reduce, inner });
const name = ({ outer, reduce, inner }: ReduceView) => `[${outer}, ${reduce}, ${inner}]`;

const views = [
  ...awkwardSizes.map((n) => view(3, n, 1)),
  ...awkwardSizes.map((n) => view(2, 5, n)),
  ...awkwardSizes.map((n) => view(2, n, 5)),
  view(2, 64, 7),
  view(2, 65, 1025),
  view(1, 130, 33),
  view(0, 5, 1),
  view(3, 0, 4),
  view(2, 0, 1),
  view(3, 4, 0),
  view(1, 170_001, 1), // pieces of a row on threads
  view(3, 66_000, 1),
  view(9100, 17, 1),
  view(1, 4003, 37), // pieces of columns on threads
  view(5, 95, 333),
];

const cases: ConformanceCase[] = [];
for (const v of views) {
  const length = v.outer * v.reduce * v.inner;
  for (const op of ops) {
    cases.push({
      name: `${op} of ${name(v)}`,
      // Sums of both signs are measured against the largest result; all of them hold far less than 1e-6 of that.
      tolerance: 1e-6,
      run: (kernels, make) => {
        const x = op === "prod" ? make.normal(length, 1, 0.5 / Math.sqrt(v.reduce + 1)) : make.normal(length, 0.5);
        const y = make.empty(v.outer * v.inner);
        kernels.reduce(op, x, y, v);
        return [y];
      },
    });
  }
  if (v.reduce === 0) continue;
  cases.push({
    name: `argMax of ${name(v)}`,
    tolerance: 0,
    run: (kernels, make) => {
      // Few different values, so that the largest comes more than once.
      const x = make.from(make.uniform(length, 0, 40).view.map(Math.floor));
      const y = make.empty(v.outer * v.inner, "int32");
      kernels.argMax(x, y, v);
      return [y];
    },
  });
}

/** Each row (or column) holds NaN, infinities or zeros of both signs at other places. */
const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0, 1, -1];
for (const v of [view(40, 7, 1), view(40, 37, 1), view(3, 37, 9), view(2, 1100, 3)]) {
  for (const op of [...ops, "argMax"] as const) {
    cases.push({
      name: `${op} of NaN and infinity in ${name(v)}`,
      tolerance: 0,
      run: (kernels, make) => {
        const choice = make.uniform(v.outer * v.reduce * v.inner, 0, 1).view;
        const share = 2 / v.reduce;
        const x = make.from(choice.map((c, i) => (c < share ? special[i % 7]! : i % 3)));
        const y = make.empty(v.outer * v.inner, op === "argMax" ? "int32" : undefined);
        if (op === "argMax") kernels.argMax(x, y, v);
        else kernels.reduce(op, x, y, v);
        return [y];
      },
    });
  }
}
conformance("reduction", cases);

test("a sum of ten million float32 keeps 7 digits, whatever the axis", () => {
  const make = new Maker("float32", 1);
  const n = 10_000_000;
  const x = make.empty(n);
  x.view.fill(0.1);
  for (const v of [view(1, n, 1), view(1, n / 10, 10), view(1, n / 1000, 1000)]) {
    const y = make.empty(v.inner);
    wasm.reduce!("sum", x, y, v);
    const want = Math.fround(0.1) * v.reduce;
    for (const sum of y.view) expect(Math.abs(sum - want) / want).toBeLessThan(1e-7);
  }
  make.release();
});

test("squares and products pass through values that float32 does not hold", () => {
  const make = new Maker("float32", 1);
  for (const [reduce, inner] of [
    [90, 1],
    [90, 5],
  ] as const) {
    const y = make.empty(inner);
    const at = (i: number) => Math.floor(i / inner);
    const sign = (r: number) => (r < 8 ? 1 : r < 16 ? -1 : 0);
    const big = make.from(Array.from({ length: reduce * inner }, (_, i) => 10 ** (30 * sign(at(i)))));
    wasm.reduce!("prod", big, y, view(1, reduce, inner));
    for (const v of y.view) expect(v).toBeCloseTo(1, 5);
    const tiny = make.from(Array.from({ length: reduce * inner }, () => 1e-21));
    wasm.reduce!("sumSquares", tiny, y, view(1, reduce, inner));
    for (const v of y.view) expect(v).toBeCloseTo(90e-42, 43);
  }
  make.release();
});

test("int32 is summed by reference", () => {
  const make = new Maker("float32", 1);
  const [x, y] = [make.ints([1, 2, 3, 4, 5, 6]), make.ints([0, 0])];
  kernels.reduce("sum", x, y, view(2, 3, 1));
  expect(Array.from(y.view)).toEqual([6, 15]);
  make.release();
});
