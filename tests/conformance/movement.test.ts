import { describe, expect, test } from "vitest";
import { UnsupportedKernel } from "../../src/base/errors.js";
import { kernels } from "../../src/kernels/dispatch.js";
import type { StridedPlan } from "../../src/kernels/kernel_set.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { type ConformanceCase, conformance, Maker } from "./harness.js";

const product = (shape: readonly number[]) => shape.reduce((total, n) => total * n, 1);

function contiguous(shape: readonly number[]): number[] {
  return shape.map((_, axis) => product(shape.slice(axis + 1)));
}

/** y of shape order.map(axis => shape[axis]), as x transposed. */
function permuted(shape: readonly number[], order: readonly number[]): StridedPlan {
  const strides = contiguous(shape);
  return { shape: order.map((axis) => shape[axis]!), strides: order.map((axis) => strides[axis]!), offset: 0 };
}

/** [plan, length of the strided side]; all of these name each place at most once. */
const oneToOne: [string, StridedPlan, number][] = [
  ["one element", { shape: [1], strides: [1], offset: 2 }, 4],
  ["no axes", { shape: [], strides: [], offset: 3 }, 4],
  ["nothing", { shape: [3, 0, 2], strides: [0, 1, 0], offset: 0 }, 4],
  ["slice of rows", { shape: [7, 13], strides: [17, 1], offset: 19 }, 200],
  ["slice with steps", { shape: [5, 6, 7], strides: [120, 20, 2], offset: 3 }, 700],
  ["flip of both axes", { shape: [9, 11], strides: [-11, -1], offset: 98 }, 99],
  ["flip of the outer axis", { shape: [9, 33], strides: [-33, 1], offset: 8 * 33 }, 9 * 33],
  ["five axes, no two merge", { shape: [2, 3, 2, 3, 5], strides: [400, 120, 50, 13, 2], offset: 1 }, 900],
  ["eight axes", { shape: [2, 2, 2, 2, 2, 2, 2, 3], strides: [1, 2, 4, 8, 16, 32, 64, 128], offset: 0 }, 384],
  ["transpose 1x7", permuted([1, 7], [1, 0]), 7],
  ["transpose 4x4", permuted([4, 4], [1, 0]), 16],
  ["transpose 3x5", permuted([3, 5], [1, 0]), 15],
  ["transpose 31x33", permuted([31, 33], [1, 0]), 31 * 33],
  ["transpose 64x100", permuted([64, 100], [1, 0]), 6400],
  ["transpose 257x381, threads", permuted([257, 381], [1, 0]), 257 * 381],
  ["channels first to last, threads", permuted([8, 37, 19, 21], [0, 2, 3, 1]), 8 * 37 * 19 * 21],
  ["channels last to first", permuted([5, 6, 7, 3], [0, 3, 1, 2]), 630],
  ["heads, threads", permuted([11, 65, 6, 33], [0, 2, 1, 3]), 11 * 65 * 6 * 33],
  ["all axes turned round", permuted([3, 4, 5, 6, 7], [4, 3, 2, 1, 0]), 2520],
  ["transpose of a slice", { shape: [30, 21], strides: [1, 50], offset: 7 }, 50 * 21],
  ["long run, threads", { shape: [150_003], strides: [1], offset: 5 }, 150_010],
  ["every other element, threads", { shape: [3, 50_001], strides: [100_010, 2], offset: 5 }, 300_100],
];
const repeating: [string, StridedPlan, number][] = [
  ["expand rows", { shape: [5, 17], strides: [0, 1], offset: 1 }, 20],
  ["expand columns", { shape: [17, 5], strides: [1, 0], offset: 0 }, 17],
  ["expand both ends", { shape: [3, 17, 35], strides: [0, 1, 0], offset: 0 }, 17],
  ["expand all", { shape: [1025], strides: [0], offset: 1 }, 2],
  ["windows that overlap", { shape: [20, 9], strides: [3, 1], offset: 0 }, 70],
  ["expand, threads", { shape: [160, 30, 31], strides: [0, 1, 0], offset: 0 }, 30],
];

const cases: ConformanceCase[] = [];
for (const [name, plan, length] of [...oneToOne, ...repeating]) {
  cases.push({
    name: `gather, ${name}`,
    tolerance: 0,
    run: (kernels, make) => {
      const y = make.empty(product(plan.shape));
      kernels.gather(make.normal(length), y, plan);
      return [y];
    },
  });
}
for (const [name, plan, length] of oneToOne) {
  cases.push({
    name: `scatter, ${name}`,
    tolerance: 0,
    run: (kernels, make) => {
      const y = make.normal(length);
      kernels.scatter(make.normal(product(plan.shape)), y, plan);
      return [y];
    },
  });
}
cases.push({
  name: "gather and scatter of int32",
  tolerance: 0,
  run: (kernels, make) => {
    const x = make.ints(Array.from({ length: 35 }, (_, i) => i * 100_000_007 - 1_600_000_000));
    const [y, z] = [make.empty(35, "int32"), make.ints(Array.from({ length: 40 }, (_, i) => -i))];
    kernels.gather(x, y, permuted([5, 7], [1, 0]));
    kernels.scatter(y, z, { shape: [7, 5], strides: [1, 7], offset: 5 });
    return [y, z];
  },
});

// [rows of the table, indices, width]; indices repeat, and some rows are never named
for (const [rows, count, width] of [
  [5, 0, 3],
  [5, 9, 1],
  [7, 13, 5],
  [11, 100, 33],
  [300, 700, 64],
  [40, 333, 1030],
] as const) {
  const indices = Array.from({ length: count }, (_, i) => (i * i * 7 + 3 * i) % rows);
  cases.push(
    {
      name: `embedding, ${count} rows of ${width}`,
      tolerance: 0,
      run: (kernels, make) => {
        const y = make.empty(count * width);
        kernels.embedding(make.normal(rows * width), make.ints(indices), y, width);
        return [y];
      },
    },
    {
      name: `embeddingGrad, ${count} rows of ${width}`,
      tolerance: 1e-6,
      run: (kernels, make) => {
        const dTable = make.normal(rows * width);
        kernels.embeddingGrad(make.ints(indices), make.normal(count * width), dTable, width);
        return [dTable];
      },
    },
  );
}
conformance("movement", cases);

describe("what the movement kernels leave to reference", () => {
  const cases: [string, number, StridedPlan][] = [
    ["nine axes that do not merge", 512, permuted(Array(9).fill(2), [8, 7, 6, 5, 4, 3, 2, 1, 0])],
    ["a scatter that writes a place twice", 12, { shape: [3, 4], strides: [0, 1], offset: 0 }],
  ];
  test.each(cases)("%s", (_, length, plan) => {
    const make = new Maker("float32", 1);
    const [x, y] = [make.normal(length), make.normal(length)];
    const before = Array.from(x.view);
    expect(() => wasm.scatter!(x, y, plan)).toThrow(UnsupportedKernel);
    kernels.scatter(x, y, plan);
    const place = (i: number) =>
      plan.shape.reduce((sum, n, k) => sum + (Math.floor(i / contiguous(plan.shape)[k]!) % n) * plan.strides[k]!, 0);
    const want = new Map(before.map((v, i) => [place(i), v]));
    for (const [at, v] of want) expect(y.view[at]).toBe(v);
    make.release();
  });

  test("float64", () => {
    const make = new Maker("float64", 1);
    const [x, y] = [make.normal(6), make.empty(6)];
    expect(() => wasm.gather!(x, y, permuted([2, 3], [1, 0]))).toThrow(UnsupportedKernel);
    kernels.gather(x, y, permuted([2, 3], [1, 0]));
    expect(Array.from(y.view)).toEqual([0, 3, 1, 4, 2, 5].map((i) => x.view[i]));
    make.release();
  });
});
