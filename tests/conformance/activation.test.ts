import { describe, expect, test } from "vitest";
import type { ActivationOp } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const sizes = [0, ...awkwardSizes, 170_001];
const ops: ActivationOp[] = ["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"];
/** leakyRelu's slope; a power of two, so that float32 holds it exactly. */
const SLOPE = 1 / 64;
const infinite = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];

conformance("activation", [
  ...ops.map<ConformanceCase>((op) => ({
    name: op,
    tolerance: 2.5e-7,
    run: (kernels, make) =>
      sizes.map((n) => {
        const y = make.empty(n);
        kernels.activation(op, make.normal(n, 0, 1.5), y, SLOPE);
        return y;
      }),
  })),
  ...ops.map<ConformanceCase>((op) => ({
    name: `${op}, gradient`,
    tolerance: 2.5e-7,
    run: (kernels, make) =>
      sizes.map((n) => {
        const dx = make.empty(n);
        kernels.activationGrad(op, make.normal(n, 0, 1.5), make.normal(n), dx, SLOPE);
        return dx;
      }),
  })),
  ...ops.map<ConformanceCase>((op) => ({
    name: `${op} in place, and its gradient over dy and over x`,
    tolerance: 2.5e-7,
    run: (kernels, make) => {
      const [x, x2, x3, dy] = [make.normal(133), make.normal(133), make.normal(133), make.normal(133)];
      kernels.activation(op, x, x, SLOPE);
      kernels.activationGrad(op, x2, dy, x2, SLOPE);
      kernels.activationGrad(op, x3, dy, dy, SLOPE);
      return [x, x2, dy];
    },
  })),
  ...ops.map<ConformanceCase>((op) => ({
    name: `${op} of infinities and NaN, and one by one in the tails`,
    // Each value is an output of its own, and e^-a has the relative error of its argument: 66 * 2^-24 and a few roundings.
    tolerance: 1e-5,
    run: (kernels, make) =>
      [...infinite, 0, ...[1e-20, 0.25, 5, 9, 1e10, 3e38].flatMap((v) => [v, -v])].flatMap((v) => {
        const [x, one, y, dx] = [make.from([v]), make.from([1]), make.empty(1), make.empty(1)];
        kernels.activation(op, x, y, SLOPE);
        kernels.activationGrad(op, x, one, dx, SLOPE);
        return [y, dx];
      }),
  })),
]);

const huge = [1e5, 1e10, 1e20, 3e38];
const finite = [0, -0, 1e-45, 1e-20, ...huge, ...huge.map((v) => -v), ...[5, 9, 12.5, 20, 90].flatMap((v) => [v, -v])];

/** Value and derivative (dy = 1) on each backend. */
function both(op: ActivationOp, values: number[]): { x: number; got: number[]; want: number[] }[] {
  const [f32, f64] = [new Maker("float32", 1), new Maker("float64", 1)];
  try {
    const rows = [f32, f64].map((make) => {
      const backend = make === f32 ? wasm : reference;
      const [x, one] = [make.from(values.map(Math.fround)), make.from(values.map(() => 1))];
      const [y, dx] = [make.empty(values.length), make.empty(values.length)];
      backend.activation!(op, x, y, SLOPE);
      backend.activationGrad!(op, x, one, dx, SLOPE);
      return values.map((_, i) => [y.view[i]!, dx.view[i]!]);
    });
    return values.map((x, i) => ({ x, got: rows[0]![i]!, want: rows[1]![i]! }));
  } finally {
    f32.release();
    f64.release();
  }
}

describe("activation at the ends of the range", () => {
  test.each(ops)("%s of zero, tiny and huge values, element by element", (op) => {
    for (const { x, got, want } of both(op, finite)) {
      for (const part of [0, 1]) {
        // Far in a tail e^-a has the relative error of its argument a, so 90 * 2^-24 and a few roundings.
        const allowed = 1e-5 * Math.abs(want[part]!) + 1e-44;
        expect(Math.abs(got[part]! - want[part]!), `${part ? "slope" : "value"} at ${x}`).toBeLessThanOrEqual(allowed);
      }
    }
  });

  test.each(ops)("%s of infinities and NaN as in the reference", (op) => {
    for (const { x, got, want } of both(op, infinite)) expect(got, `at ${x}`).toEqual(want);
  });

  test("relu keeps NaN, and its gradient is 0 at 0 whatever dy is", () => {
    const make = new Maker("float32", 1);
    const x = make.from([Number.NaN, 0, -0, -1, 1]);
    const y = make.empty(5);
    wasm.activation!("relu", x, y, 0);
    expect([...y.view].map((v) => v + 0)).toEqual([Number.NaN, 0, 0, 0, 1]);
    const dy = make.from(new Array(5).fill(Number.POSITIVE_INFINITY));
    for (const backend of [wasm, reference]) {
      const dx = make.empty(5);
      backend.activationGrad!("relu", x, dy, dx, 0);
      expect([...dx.view]).toEqual([Number.POSITIVE_INFINITY, 0, 0, 0, Number.POSITIVE_INFINITY]);
    }
    make.release();
  });

  test("each derivative is the slope of its curve (central differences in float64)", () => {
    const make = new Maker("float64", 5);
    const n = 200;
    const h = 1e-5;
    for (const op of ops) {
      const x = make.normal(n, 0.1, 2);
      const [up, down] = [1, -1].map((sign) => make.from(Array.from(x.view, (v) => v + sign * h)));
      const [yUp, yDown, dx] = [make.empty(n), make.empty(n), make.empty(n)];
      reference.activation(op, up!, yUp, SLOPE);
      reference.activation(op, down!, yDown, SLOPE);
      reference.activationGrad(op, x, make.from(new Array(n).fill(1)), dx, SLOPE);
      for (let i = 0; i < n; i++) expect(dx.view[i]).toBeCloseTo((yUp.view[i]! - yDown.view[i]!) / (2 * h), 8);
    }
    make.release();
  });
});
