import { expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { GlobalResponseNorm, GRN } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

for (const [name, Layer] of [
  ["GRN", GRN],
  ["GlobalResponseNorm", GlobalResponseNorm],
] as const) {
  normContract({
    name,
    make: (o) => new Layer(4, o),
    shape: [2, 4, 2, 3],
    state: ["gamma", "beta"],
    wrong: [2, 6, 2, 3],
    lone: { shape: [1, 4, 1, 1], works: true },
    constant: "finite",
    spreads: [1, 2, 3],
    sameInEval: true,
  });
}

test("begins as the identity, and learns from the first step", () => {
  const x = normal([2, 3, 4]).cast("float32");
  const layer = new GRN(3);
  expect(values(layer.forward(x))).toEqual(values(x));
  const dy = normal([2, 3, 4]).cast("float32");
  expect(values(layer.backward(dy))).toEqual(values(dy));
  for (const v of values(layer.gamma.grad)) expect(v).not.toBe(0);
});

test("channels last are channels first in another order", () => {
  const x = normal([3, 4, 2, 5]);
  const dy = normal([3, 4, 2, 5]);
  const first = new GRN(4, { dtype: "float64" });
  const last = new GRN(4, { dtype: "float64", axis: -1 });
  for (const p of first.parameters()) p.assign(normal(p.shape));
  last.loadStateDict(first.stateDict());
  const toLast = (t: Tensor) => t.permute([0, 2, 3, 1]);
  expect(relativeError(values(last.forward(toLast(x))), values(toLast(first.forward(x))))).toBeLessThanOrEqual(1e-14);
  expect(relativeError(values(last.backward(toLast(dy))), values(toLast(first.backward(dy))))).toBeLessThanOrEqual(
    1e-14,
  );
  expect(relativeError(values(last.gamma.grad), values(first.gamma.grad))).toBeLessThanOrEqual(1e-14);
});

test("a factor of exactly 0 keeps the gradient through the norms", () => {
  // Two channels of equal norm: N = 1 for both, and gamma = -1 makes y = 0 for the first.
  const run = (gamma: number) => {
    const layer = new GRN(2, { dtype: "float64", eps: 0 });
    layer.gamma.assign([gamma, 0.5]);
    layer.forward(
      tensor(
        [
          [
            [3, 4],
            [5, 0],
          ],
        ],
        { dtype: "float64" },
      ),
    );
    return values(
      layer.backward(
        tensor(
          [
            [
              [1, -2],
              [0.5, 2],
            ],
          ],
          { dtype: "float64" },
        ),
      ),
    );
  };
  expect(relativeError(run(-1), run(-1 + 1e-9))).toBeLessThanOrEqual(1e-8);
  expect(run(-1)[0]).not.toBe(0);
});

test("channels of zeros, and samples of zeros", () => {
  for (const eps of [0, 1e-6]) {
    const layer = new GRN(2, { eps });
    layer.gamma.assign([2, -1]);
    const y = layer.forward(
      tensor([
        [
          [0, 0],
          [1, 2],
        ],
        [
          [0, 0],
          [0, 0],
        ],
      ]),
    );
    for (const v of [...values(y), ...values(layer.backward(normal([2, 2, 2]).cast("float32")))]) {
      expect(v).toSatisfy(Number.isFinite);
    }
    expect(values(layer.gamma.grad)[0]).toBe(0);
  }
});

test("what it refuses", () => {
  expect(() => new GRN(0)).toThrow(OptionError);
  expect(() => new GRN(4, { axis: "last" as never })).toThrow(OptionError);
  expect(() => new GRN(3, { axis: -1 }).forward(normal([2, 3, 4]).cast("float32"))).toThrow(
    /Axis 1 has 3: name it as axis/,
  );
  expect(() => new GRN(3, { axis: 0 }).forward(normal([3, 4]).cast("float32"))).toThrow(ShapeError);
});
