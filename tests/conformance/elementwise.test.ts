import { describe, expect, test } from "vitest";
import type { DType } from "../../src/base/dtype.js";
import { UnsupportedKernel } from "../../src/base/errors.js";
import { contiguousStrides, numberOfElements, type Shape } from "../../src/base/shape.js";
import { kernels as dispatched } from "../../src/kernels/dispatch.js";
import type { BinaryOp, BroadcastPlan, UnaryOp } from "../../src/kernels/kernel_set.js";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import type { Storage } from "../../src/memory/storage.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const sizes = [0, ...awkwardSizes, 170_001];

/** [low, high] of the inputs, chosen so that the largest result does not drown the rest. */
const unaryRange: Record<UnaryOp, readonly [number, number]> = {
  neg: [-3, 3],
  abs: [-3, 3],
  sign: [-3, 3],
  square: [-3, 3],
  sqrt: [0, 9],
  rsqrt: [0.01, 9],
  reciprocal: [0.1, 4],
  exp: [-4, 2],
  log: [0.001, 50],
  log1p: [-0.9, 4],
  expm1: [-4, 1],
  tanh: [-4, 4],
  erf: [-3, 3],
  sigmoid: [-8, 8],
  softplus: [-8, 4],
  sin: [-20, 20],
  cos: [-20, 20],
  floor: [-9, 9],
  ceil: [-9, 9],
  round: [-9, 9],
  isNaN: [-9, 9],
  not: [-1, 1],
};
const unaryOps = Object.keys(unaryRange) as UnaryOp[];
const binaryOps: BinaryOp[] = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"];
const comparisons: BinaryOp[] = ["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual"];

/** A plan straight from the rule of broadcasting, axes not merged. */
function planFor(a: Shape, b: Shape, shape: Shape): BroadcastPlan {
  const strides = (from: Shape) => {
    const padded = [...new Array<number>(shape.length - from.length).fill(1), ...from];
    return contiguousStrides(padded).map((s, i) => (padded[i] === 1 ? 0 : s));
  };
  return { shape, aStrides: strides(a), bStrides: strides(b) };
}

const broadcasts: readonly (readonly [Shape, Shape, Shape])[] = [
  [[], [], []],
  [[7], [], [7]],
  [[170_001], [1], [170_001]],
  [[1], [170_001], [170_001]],
  [[33, 10], [10], [33, 10]],
  [[5000, 17], [17], [5000, 17]],
  [[17], [5000, 17], [5000, 17]],
  [
    [5000, 17],
    [5000, 1],
    [5000, 17],
  ],
  [
    [3, 1],
    [1, 5],
    [3, 5],
  ],
  [
    [301, 1],
    [1, 301],
    [301, 301],
  ],
  [
    [4, 6, 49],
    [6, 1],
    [4, 6, 49],
  ],
  [
    [3, 2, 70, 75],
    [2, 1, 1],
    [3, 2, 70, 75],
  ],
  [
    [2, 9001],
    [2, 1],
    [2, 9001],
  ],
  [
    [2, 9001],
    [1, 9001],
    [2, 9001],
  ],
  [
    [2, 1, 3, 1, 5],
    [1, 4, 1, 2, 1],
    [2, 4, 3, 2, 5],
  ],
  [
    [3, 4, 1],
    [4, 1],
    [3, 4, 1],
  ],
];

const binaryCase = (op: BinaryOp): ConformanceCase => ({
  name: `binary ${op} over ${broadcasts.length} pairs of shapes`,
  // float32 rounding of one operation; pow is rounded once from double precision.
  tolerance: comparisons.includes(op) ? 0 : 1.2e-7,
  run: (kernels, make) =>
    broadcasts.map(([a, b, shape]) => {
      // Quarter steps make equal pairs frequent, and stay away from 0 for division.
      const quarters = (s: Shape) => {
        const x = make.uniform(numberOfElements(s), 0.25, 3);
        return make.from(Array.from(x.view, (v) => Math.round(v * 4) / 4));
      };
      const y = make.empty(numberOfElements(shape));
      kernels.binary(op, quarters(a), quarters(b), y, planFor(a, b, shape));
      return y;
    }),
});

conformance("elementwise", [
  {
    name: "fill",
    tolerance: 0,
    run: (kernels, make) =>
      sizes.map((n) => {
        const y = make.empty(n);
        kernels.fill(y, 2.5);
        return y;
      }),
  },
  ...unaryOps.map<ConformanceCase>((op) => ({
    name: `unary ${op}`,
    tolerance: 3e-7,
    run: (kernels, make) =>
      sizes.map((n) => {
        const y = make.empty(n);
        kernels.unary(op, make.uniform(n, ...unaryRange[op]), y);
        return y;
      }),
  })),
  ...[...binaryOps, ...comparisons].map(binaryCase),
  {
    name: "in place: y is x, a or b",
    tolerance: 3e-7,
    run: (kernels, make) =>
      sizes.flatMap((n) => {
        const [x, a, b, other] = [make.normal(n), make.normal(n), make.normal(n), make.normal(n)];
        const plan = { shape: [n], aStrides: [1], bStrides: [1] };
        kernels.unary("tanh", x, x);
        kernels.binary("sub", a, other, a, plan);
        kernels.binary("sub", other, b, b, plan);
        return [x, a, b];
      }),
  },
  {
    name: "where, with a float and an int32 condition",
    tolerance: 0,
    run: (kernels, make) =>
      sizes.flatMap((n) => {
        const choice = Array.from({ length: n }, (_, i) => [0, 1, -0, -3, 0.5, 0, Number.NaN][(i * 5) % 7]!);
        const [a, b, y, z] = [make.normal(n), make.normal(n), make.empty(n), make.empty(n)];
        kernels.where(make.from(choice), a, b, y);
        kernels.where(make.ints(choice.map((v) => 2 * v)), a, b, z);
        return [y, z];
      }),
  },
  {
    name: "addScaled",
    tolerance: 2e-7,
    run: (kernels, make) =>
      sizes.map((n) => {
        const y = make.normal(n);
        kernels.addScaled(make.normal(n), y, -0.7);
        return y;
      }),
  },
  {
    name: "cast between each pair of types",
    tolerance: 1e-7, // float64 to float32 rounds
    run: (kernels, make) =>
      sizes.flatMap((n) => {
        const [x, doubles] = [make.normal(n, 0, 50), make.from(make.normal(n).view, "float64")];
        const ints = make.empty(n, "int32");
        const [back, copy, wide, narrow] = [make.empty(n), make.empty(n), make.empty(n, "float64"), make.empty(n)];
        kernels.cast(x, ints);
        kernels.cast(ints, back);
        kernels.cast(x, copy);
        kernels.cast(x, wide);
        kernels.cast(doubles, narrow);
        return [ints, back, copy, wide, narrow];
      }),
  },
]);

/** The distance between neighbouring float32 numbers around x. */
function ulp(x: number): number {
  const bits = new Uint32Array(new Float32Array([Math.abs(x)]).buffer)[0]!;
  return 2 ** (Math.min(254, Math.max(1, bits >>> 23)) - 150);
}

/** Each of `got` against `want`: the same special value, or within `limit` units in the last place. */
function expectClose(x: ArrayLike<number>, got: ArrayLike<number>, want: ArrayLike<number>, limit: number): void {
  for (let i = 0; i < want.length; i++) {
    const rounded = Math.fround(want[i]!);
    if (Object.is(got[i], rounded) || got[i] === rounded) continue;
    const error = Math.abs(got[i]! - want[i]!) / ulp(want[i]!);
    if (!(error <= limit)) expect.fail(`at ${x[i]}: ${got[i]}, expected ${want[i]} (${error} ulp)`);
  }
}

const specials = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  ...[1e-45, 1e-40, 1.1754944e-38, 1e-30, 1e-8, 87.3, 88.72, 88.73, 103.9, 104, 16777217, 1e10, 3e38].flatMap((v) => [
    v,
    -v,
  ]),
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
].map(Math.fround);

describe("accuracy of the float32 functions, element by element", () => {
  const use = (run: (make: Maker, doubles: Maker) => void) => {
    const makers = [new Maker("float32", 1), new Maker("float64", 1)] as const;
    try {
      run(...makers);
    } finally {
      for (const m of makers) m.release();
    }
  };
  const check = (op: UnaryOp, x: ArrayLike<number>, limit: number) =>
    use((make, doubles) => {
      const [y, want] = [make.empty(x.length), doubles.empty(x.length)];
      wasm.unary!(op, make.from(x), y);
      reference.unary(op, doubles.from(x), want);
      expectClose(x, y.view, want.view, limit);
    });

  test.each(unaryOps)("%s of special values", (op) => check(op, specials, 2.5));

  test.each(unaryOps)("%s within 2.5 ulp over all magnitudes", (op) => {
    // A prime step through the bit patterns meets every exponent with many mantissas.
    const bits = new Uint32Array(120_000).map((_, i) => Math.imul(i, 35_791));
    check(op, new Float32Array(bits.buffer), 2.5);
  });

  test.each([...binaryOps, ...comparisons])("%s of all pairs of special values", (op) =>
    use((make, doubles) => {
      const n = specials.length;
      const plan = { shape: [n, n], aStrides: [1, 0], bStrides: [0, 1] };
      const [y, want] = [make.empty(n * n), doubles.empty(n * n)];
      wasm.binary!(op, make.from(specials), make.from(specials), y, plan);
      reference.binary(op, doubles.from(specials), doubles.from(specials), want, plan);
      const pairs = specials.flatMap((a) => specials.map((b) => `${a}, ${b}`)) as unknown as ArrayLike<number>;
      expectClose(pairs, y.view, want.view, 0.51);
    }),
  );

  test("float to int32 truncates, saturates and makes NaN 0, in each backend", () =>
    use((make) => {
      const x = make.from([1.9, -1.9, 3e9, -3e9, Number.NaN, Number.POSITIVE_INFINITY, -0.5]);
      for (const backend of [wasm, reference]) {
        const y = make.empty(7, "int32");
        backend.cast!(x, y);
        expect([...y.view]).toEqual([1, -1, 2147483647, -2147483648, 0, 2147483647, 0]);
      }
    }));
});

describe("types the WASM kernels leave to reference", () => {
  const run = (float: DType, body: (make: Maker) => Storage): number[] => {
    const make = new Maker(float, 3);
    try {
      return [...body(make).view];
    } finally {
      make.release();
    }
  };

  test("int32 comparison into int32 and into float32", () => {
    for (const dtype of ["int32", "float32"] as const) {
      const got = run("float32", (make) => {
        const y = make.empty(4, dtype);
        const plan = { shape: [4], aStrides: [1], bStrides: [1] };
        const [a, b] = [make.ints([1, 2, 3, 4]), make.ints([1, 0, 3, 5])];
        expect(() => wasm.binary!("equal", a, b, y, plan)).toThrow(UnsupportedKernel);
        dispatched.binary("equal", a, b, y, plan);
        return y;
      });
      expect(got).toEqual([1, 0, 1, 0]);
    }
  });

  test("float64 unary", () => {
    const got = run("float64", (make) => {
      const y = make.empty(2);
      dispatched.unary("erf", make.from([0.5, 2.5]), y);
      return y;
    });
    // From tables with 16 digits.
    expect(got[0]).toBeCloseTo(0.5204998778130465, 15);
    expect(got[1]).toBeCloseTo(0.999593047982555, 15);
  });
});
