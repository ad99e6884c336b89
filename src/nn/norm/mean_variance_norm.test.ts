import { expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import type { Tensor } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { BatchNorm2d, MeanVarianceNorm } from "./index.js";

const values = (t: Tensor) => [...t.dataSync()];

normContract({
  name: "MeanVarianceNorm",
  make: (o) => new MeanVarianceNorm(o),
  shape: [2, 4, 2, 3],
  state: [],
  wrong: [2, 4, 3],
  lone: { shape: [1, 4, 1, 1], works: true },
  constant: "bias",
  spreads: [0, 2, 3],
  sameInEval: true,
});

test("its default is batch normalization without eps, affine and memory", () => {
  const x = normal([3, 4, 2, 5], 2, 3);
  const bn = new BatchNorm2d(4, { dtype: "float64", affine: false, eps: 0 });
  expect(relativeError(values(new MeanVarianceNorm().forward(x)), values(bn.forward(x)))).toBeLessThanOrEqual(2e-9);
});

test("eps is added to the deviation", () => {
  const x = normal([5, 7]);
  const plain = values(new MeanVarianceNorm({ axes: 1, eps: 0 }).forward(x));
  const data = values(x);
  const want = plain.map((v, i) => {
    const row = data.slice(7 * Math.floor(i / 7), 7 * Math.floor(i / 7) + 7);
    const mean = row.reduce((a, b) => a + b, 0) / 7;
    const sigma = Math.sqrt(row.reduce((s, e) => s + (e - mean) ** 2, 0) / 7);
    return (v * sigma) / (sigma + 0.5);
  });
  expect(relativeError(values(new MeanVarianceNorm({ axes: [-1], eps: 0.5 }).forward(x)), want)).toBeLessThanOrEqual(
    1e-14,
  );
});

test("what it refuses", () => {
  expect(() => new MeanVarianceNorm({ axes: [] })).toThrow(OptionError);
  expect(() => new MeanVarianceNorm({ axes: [0.5] })).toThrow(OptionError);
  expect(() => new MeanVarianceNorm({ axes: [0, -4] }).forward(normal([2, 4, 2, 3]))).toThrow(ShapeError);
});
