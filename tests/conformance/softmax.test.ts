import { describe, expect, test } from "vitest";
import type { CrossEntropyOptions } from "../../src/kernels/kernel_set.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { awkwardSizes, type ConformanceCase, conformance, Maker } from "./harness.js";

const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
const cases: ConformanceCase[] = [];
const shapes: [number, number][] = [...awkwardSizes.map((n): [number, number] => [3, n]), [0, 5], [700, 10], [9, 4099]];

for (const log of [false, true]) {
  const kind = log ? "log-softmax" : "softmax";
  for (const [rows, size] of shapes) {
    cases.push(
      {
        name: `${kind} of [${rows}, ${size}]`,
        tolerance: 5e-7,
        run: (kernels, make) => {
          const y = make.empty(rows * size);
          kernels.softmax(make.normal(rows * size, 50, 3), y, rows, size, log);
          return [y];
        },
      },
      {
        name: `gradient of ${kind} of [${rows}, ${size}]`,
        tolerance: 5e-7,
        run: (kernels, make) => {
          // Any y will do: the formula does not need rows that are normalized.
          const y = log ? make.uniform(rows * size, -12, 0) : make.uniform(rows * size, 0, 2 / size);
          const dx = make.empty(rows * size);
          kernels.softmaxGrad(y, make.normal(rows * size), dx, rows, size, log);
          return [dx];
        },
      },
    );
  }
  cases.push({
    name: `${kind} of infinities and NaN`,
    tolerance: 5e-7,
    run: (kernels, make) => {
      const rows = [
        [-inf, -inf, -inf, -inf, -inf],
        [-inf, 1, 2, -inf, 3],
        [1, 2, 3, 4, -inf],
        [1, inf, 2, 3, 4],
        [1, 2, 3, 4, inf],
        [1, nan, 2, 3, 4],
        [1, 2, 3, 4, nan],
        [1e38, -1e38, 0, 1, 1e38],
        [-200, 0, -100, -90, -104],
      ];
      return rows.map((row) => {
        const y = make.empty(row.length);
        kernels.softmax(make.from(row), y, 1, row.length, log);
        return y;
      });
    },
  });
}

for (const [rows, classes] of shapes) {
  for (const smoothing of [0, 0.1]) {
    const options: CrossEntropyOptions = { rows, classes, smoothing, ignoreIndex: -100 };
    const targets = Array.from({ length: rows }, (_, r) => (r % 5 === 1 ? -100 : (r * 7 + classes - 1) % classes));
    cases.push({
      name: `cross entropy of [${rows}, ${classes}], smoothing ${smoothing}`,
      tolerance: 5e-7,
      run: (kernels, make) => {
        const [logProbs, losses] = [make.empty(rows * classes), make.empty(rows)];
        kernels.crossEntropy(make.normal(rows * classes, -20, 2), make.ints(targets), logProbs, losses, options);
        return [logProbs, losses];
      },
    });
    cases.push({
      name: `gradient of cross entropy of [${rows}, ${classes}], smoothing ${smoothing}`,
      tolerance: 5e-7,
      run: (kernels, make) => {
        const logProbs = make.uniform(rows * classes, -12, 0);
        const dx = make.empty(rows * classes);
        kernels.crossEntropyGrad(logProbs, make.ints(targets), make.normal(rows), dx, options);
        return [dx];
      },
    });
  }
}
conformance("softmax", cases);

describe("cross entropy at the edges", () => {
  const options: CrossEntropyOptions = { rows: 1, classes: 3, smoothing: 0, ignoreIndex: -1 };

  test("a class of probability 0 that is not the target costs nothing", () => {
    const make = new Maker("float32", 1);
    const [logProbs, losses] = [make.empty(3), make.empty(1)];
    wasm.crossEntropy!(make.from([-inf, 0, 0]), make.ints([1]), logProbs, losses, options);
    expect(losses.view[0]).toBeCloseTo(Math.log(2), 6);
    make.release();
  });

  test("a confident prediction keeps the digits of its loss and of its gradient", () => {
    const make = new Maker("float32", 1);
    const [logProbs, losses, dx] = [make.empty(3), make.empty(1), make.empty(3)];
    wasm.crossEntropy!(make.from([20, 0, -5]), make.ints([0]), logProbs, losses, options);
    const rest = Math.exp(-20) + Math.exp(-25);
    expect(losses.view[0]! / Math.log1p(rest)).toBeCloseTo(1, 6);
    wasm.crossEntropyGrad!(logProbs, make.ints([0]), make.from([1]), dx, options);
    expect(dx.view[0]! / (-rest / (1 + rest))).toBeCloseTo(1, 6);
    make.release();
  });
});
