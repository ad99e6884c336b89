import { expect, test } from "vitest";
import type { PoolPlan, Triple } from "../../src/kernels/kernel_set.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { type ConformanceCase, conformance, Maker } from "./harness.js";

const volume = (t: Triple) => t[0] * t[1] * t[2];

interface Axes {
  input: Triple;
  kernel: Triple;
  stride?: Triple;
  padding?: Triple;
  dilation?: Triple;
  /** Outputs as torch's ceil_mode gives them: a last window that reaches beyond the padding. */
  ceil?: boolean;
}

function plan(planes: number, axes: Axes, countIncludePad = true): PoolPlan {
  const { input, kernel, stride = kernel, padding = [0, 0, 0], dilation = [1, 1, 1], ceil = false } = axes;
  const length = (axis: 0 | 1 | 2) => {
    const room = input[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1;
    const n = Math[ceil ? "ceil" : "floor"](room / stride[axis]) + 1;
    return ceil && (n - 1) * stride[axis] >= input[axis] + padding[axis] ? n - 1 : n;
  };
  return {
    planes,
    input,
    kernel,
    stride,
    padding,
    dilation,
    countIncludePad,
    output: [length(0), length(1), length(2)],
  };
}

const flat: [string, Axes][] = [
  ["2x2 of 1x1 with padding", { input: [1, 1, 1], kernel: [1, 2, 2], stride: [1, 1, 1], padding: [0, 1, 1] }],
  ["2x2 of 8x8", { input: [1, 8, 8], kernel: [1, 2, 2] }],
  ["2x2 of 9x11", { input: [1, 9, 11], kernel: [1, 2, 2] }],
  ["2x2 of 9x11, ceil", { input: [1, 9, 11], kernel: [1, 2, 2], ceil: true }],
  ["3x3, stride 2, padding 1", { input: [1, 15, 17], kernel: [1, 3, 3], stride: [1, 2, 2], padding: [0, 1, 1] }],
  [
    "3x3, stride 2, padding 1, ceil",
    { input: [1, 16, 18], kernel: [1, 3, 3], stride: [1, 2, 2], padding: [0, 1, 1], ceil: true },
  ],
  ["3x3, stride 1, padding 1", { input: [1, 7, 14], kernel: [1, 3, 3], stride: [1, 1, 1], padding: [0, 1, 1] }],
  ["3x5, stride 3x4", { input: [1, 17, 33], kernel: [1, 3, 5], stride: [1, 3, 4], padding: [0, 1, 2] }],
  ["5x5 larger than the input", { input: [1, 3, 3], kernel: [1, 5, 5], stride: [1, 1, 1], padding: [0, 2, 2] }],
  ["one axis, kernel 7, stride 3", { input: [1, 1, 65], kernel: [1, 1, 7], stride: [1, 1, 3], padding: [0, 0, 3] }],
  ["2x3x2", { input: [5, 7, 9], kernel: [2, 3, 2], stride: [2, 1, 2], padding: [1, 1, 1] }],
];
const dilated: [string, Axes][] = [
  [
    "3x3, dilation 2",
    { input: [1, 11, 13], kernel: [1, 3, 3], stride: [1, 1, 1], padding: [0, 1, 1], dilation: [1, 2, 2] },
  ],
  [
    "2x2x3, dilation 1x3x2",
    { input: [4, 9, 12], kernel: [2, 2, 3], stride: [1, 2, 2], padding: [0, 1, 1], dilation: [1, 3, 2] },
  ],
  [
    "windows of padding alone",
    { input: [1, 2, 2], kernel: [1, 2, 2], stride: [1, 1, 1], padding: [0, 2, 2], dilation: [1, 4, 4] },
  ],
];

const cases: ConformanceCase[] = [];
for (const [name, axes] of [...flat, ...dilated]) {
  for (const planes of [1, 3, 0]) {
    const p = plan(planes, axes);
    const [n, m] = [planes * volume(p.input), planes * volume(p.output)];
    cases.push({
      name: `maxPool and its gradient, ${name}, ${planes} planes`,
      tolerance: 5e-7,
      run: (kernels, make) => {
        // Few different values, so that windows have ties.
        const x = make.from(make.uniform(n, -3, 4).view.map(Math.floor));
        const [y, index, dx] = [make.empty(m), make.empty(m, "int32"), make.empty(n)];
        kernels.maxPool(x, y, index, p);
        kernels.maxPoolGrad(make.normal(m), index, dx, p);
        return [y, index, dx];
      },
    });
  }
}
for (const [name, axes] of flat) {
  for (const countIncludePad of [true, false]) {
    const p = plan(3, axes, countIncludePad);
    const [n, m] = [3 * volume(p.input), 3 * volume(p.output)];
    cases.push({
      name: `avgPool and its gradient, ${name}${countIncludePad ? "" : ", padding not counted"}`,
      tolerance: 5e-7,
      run: (kernels, make) => {
        const [y, dx] = [make.empty(m), make.empty(n)];
        kernels.avgPool(make.normal(n, 2), y, p);
        kernels.avgPoolGrad(make.normal(m), dx, p);
        return [y, dx];
      },
    });
  }
}
for (const [planes, axes] of [
  [37, { input: [1, 28, 28], kernel: [1, 2, 2] }],
  [19, { input: [1, 33, 35], kernel: [1, 3, 3], stride: [1, 2, 2], padding: [0, 1, 1] }],
  [2, { input: [1, 150, 170], kernel: [1, 3, 3], stride: [1, 1, 1], padding: [0, 1, 1] }],
] as [number, Axes][]) {
  const p = plan(planes, axes);
  const [n, m] = [planes * volume(p.input), planes * volume(p.output)];
  cases.push({
    name: `pooling on threads, ${planes} planes of ${p.input.join("x")}`,
    tolerance: 5e-7,
    run: (kernels, make) => {
      const [x, dy] = [make.normal(n), make.normal(m)];
      const [y, index, dx] = [make.empty(m), make.empty(m, "int32"), make.empty(n)];
      const [average, averageDx] = [make.empty(m), make.empty(n)];
      kernels.maxPool(x, y, index, p);
      kernels.maxPoolGrad(dy, index, dx, p);
      kernels.avgPool(x, average, p);
      kernels.avgPoolGrad(dy, averageDx, p);
      return [y, index, dx, average, averageDx];
    },
  });
}

for (const [planes, input, output] of [
  [3, [1, 7, 7], [1, 1, 1]],
  [3, [1, 8, 6], [1, 4, 3]],
  [3, [1, 7, 10], [1, 3, 4]],
  [2, [1, 3, 2], [1, 5, 7]],
  [2, [5, 6, 33], [2, 6, 1]],
  [2, [4, 6, 65], [3, 4, 5]],
  [0, [1, 4, 4], [1, 2, 2]],
  [70, [1, 28, 29], [1, 1, 1]],
  [33, [1, 28, 29], [1, 5, 6]],
] as [number, Triple, Triple][]) {
  const [n, m] = [planes * volume(input), planes * volume(output)];
  cases.push({
    name: `adaptiveAvgPool and its gradient, ${planes} planes of ${input.join("x")} to ${output.join("x")}`,
    tolerance: 5e-7,
    run: (kernels, make) => {
      const [y, dx] = [make.empty(m), make.empty(n)];
      kernels.adaptiveAvgPool(make.normal(n, 1), y, { planes, input, output });
      kernels.adaptiveAvgPoolGrad(make.normal(m), dx, { planes, input, output });
      return [y, dx];
    },
  });
}

/** NaN, infinity and -infinity strewn over the plane, so that windows hold any mixture of them. */
for (const stride of [1, 2, 3] as const) {
  const p = plan(4, { input: [1, 17, 19], kernel: [1, 3, 3], stride: [1, stride, stride], padding: [0, 1, 1] });
  const [n, m] = [4 * volume(p.input), 4 * volume(p.output)];
  cases.push({
    name: `maxPool of NaN and infinity, stride ${stride}`,
    tolerance: 0,
    run: (kernels, make) => {
      const special = [Number.NaN, Number.POSITIVE_INFINITY, ...Array(8).fill(Number.NEGATIVE_INFINITY), 1];
      const x = make.from(make.uniform(n, 0, 11).view.map((v) => special[Math.floor(v)]!));
      const [y, index] = [make.empty(m), make.empty(m, "int32")];
      kernels.maxPool(x, y, index, p);
      return [y, index];
    },
  });
}
conformance("pool", cases);

test("maxPool names the first of equal values, also where all are -Infinity", () => {
  const make = new Maker("float32", 1);
  for (const width of [4, 12]) {
    for (const value of [7, Number.NEGATIVE_INFINITY]) {
      const p = plan(1, { input: [1, 2, width], kernel: [1, 2, 2] });
      const [y, index] = [make.empty(width / 2), make.empty(width / 2, "int32")];
      wasm.maxPool!(make.from(Array(2 * width).fill(value)), y, index, p);
      expect(Array.from(index.view)).toEqual(Array.from({ length: width / 2 }, (_, o) => 2 * o));
    }
  }
  make.release();
});
