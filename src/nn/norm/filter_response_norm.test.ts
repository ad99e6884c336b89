import { expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import { type Tensor, tensor, zeros } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { FilterResponseNorm, RMSNorm, TLU } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

normContract({
  name: "FilterResponseNorm",
  make: (o) => new FilterResponseNorm(4, o),
  shape: [2, 4, 2, 3],
  state: ["weight", "bias"],
  wrong: [2, 6, 2, 3],
  lone: { shape: [1, 4, 1, 1], works: true },
  constant: "finite",
  spreads: [2, 3],
  sameInEval: true,
});

normContract({
  name: "FilterResponseNorm with a learned eps",
  make: (o) => new FilterResponseNorm(3, { axis: -1, learnableEps: true, eps: 1e-4, ...o }),
  shape: [2, 2, 4, 3],
  state: ["weight", "bias", "eps"],
  wrong: [2, 2, 4, 5],
  lone: { shape: [1, 1, 1, 3], works: true },
  constant: "finite",
  spreads: [1, 2],
  sameInEval: true,
});

normContract({
  name: "TLU",
  make: (o) => new TLU(4, o),
  shape: [2, 4, 2, 3],
  state: ["tau"],
  bad: [{ axis: 0.5 }, { axis: "1" }],
  wrong: [2, 6, 2, 3],
  lone: { shape: [1, 4, 1, 1], works: true },
  constant: "finite",
  spreads: [],
  sameInEval: true,
});

test("is the root mean square normalization of each channel's positions", () => {
  const x = normal([3, 2, 4, 5], 1);
  const rms = new RMSNorm([4, 5], { dtype: "float64", eps: 1e-6, elementwiseAffine: false });
  const frn = new FilterResponseNorm(2, { dtype: "float64" });
  expect(relativeError(values(frn.forward(x)), values(rms.forward(x)))).toBeLessThanOrEqual(1e-14);
});

test("a negative learned eps counts by its absolute value, and channels of zeros are well", () => {
  const layer = new FilterResponseNorm(2, { learnableEps: true });
  (layer.eps as Tensor).assign([-0.25]);
  const x = tensor([
    [
      [0, 0, 0],
      [1, 1, 1],
    ],
  ]);
  expect(values(layer.forward(x)).slice(0, 3)).toEqual([0, 0, 0]);
  expect(values(layer.forward(x))[3]).toBeCloseTo(1 / Math.sqrt(1.25), 6);
  for (const v of values(
    layer.backward(
      tensor([
        [
          [1, 2, 3],
          [1, 2, 3],
        ],
      ]),
    ),
  ))
    expect(v).toSatisfy(Number.isFinite);
  // d/deps of sum(y) over the ones is -(1 + 2 + 3) / 2 * 1.25^-1.5, and |eps| falls as eps grows.
  expect((layer.eps as Tensor).grad!.item()).toBeCloseTo(3 * 1.25 ** -1.5, 5);
});

test("TLU passes what lies above its threshold, and gives the rest of the gradient to it", () => {
  const layer = new TLU(2);
  layer.tau.assign([0.5, -1]);
  expect(
    values(
      layer.forward(
        tensor([
          [0, 0],
          [2, -3],
        ]),
      ),
    ),
  ).toEqual([0.5, 0, 2, -1]);
  expect(
    values(
      layer.backward(
        tensor([
          [1, 2],
          [3, 4],
        ]),
      ),
    ),
  ).toEqual([0, 2, 3, 0]);
  expect(values(layer.tau.grad)).toEqual([1, 4]);
});

test("what they refuse", () => {
  expect(() => new FilterResponseNorm(0)).toThrow(OptionError);
  expect(() => new FilterResponseNorm(4, { learnableEps: 1 as never })).toThrow(OptionError);
  expect(() => new FilterResponseNorm(4, { axis: 0 }).forward(zeros([4, 2]))).toThrow(ShapeError);
  expect(() => new TLU(2.5)).toThrow(OptionError);
});
