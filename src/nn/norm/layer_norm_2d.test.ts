import { expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import type { Tensor } from "../../autograd/index.js";
import { OptionError } from "../../base/errors.js";
import { LayerNorm, LayerNorm2d } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

normContract({
  name: "LayerNorm2d",
  make: (o) => new LayerNorm2d(4, o),
  shape: [2, 4, 2, 3],
  state: ["weight", "bias"],
  wrong: [2, 6, 2, 3],
  lone: { shape: [1, 4, 1, 1], works: true },
  constant: "bias",
  spreads: [1],
  sameInEval: true,
});

test("is LayerNorm with the channels last", () => {
  const [x, dy] = [normal([3, 5, 2, 4], 2), normal([3, 5, 2, 4])];
  const layer = new LayerNorm2d(5, { dtype: "float64" });
  const rows = new LayerNorm(5, { dtype: "float64", eps: 1e-6 });
  for (const p of layer.parameters()) p.assign(normal(p.shape));
  rows.loadStateDict(layer.stateDict());
  const toLast = (t: Tensor) => t.permute([0, 2, 3, 1]);
  expect(relativeError(values(toLast(layer.forward(x))), values(rows.forward(toLast(x))))).toBeLessThanOrEqual(1e-14);
  expect(relativeError(values(toLast(layer.backward(dy))), values(rows.backward(toLast(dy))))).toBeLessThanOrEqual(
    1e-13,
  );
  expect(relativeError(values(layer.weight!.grad), values(rows.weight!.grad))).toBeLessThanOrEqual(1e-13);
  expect(relativeError(values(layer.bias!.grad), values(rows.bias!.grad))).toBeLessThanOrEqual(1e-13);
});

test("what it refuses, and what it leaves out", () => {
  expect(() => new LayerNorm2d(-1)).toThrow(OptionError);
  expect(() => new LayerNorm2d(4).forward(normal([2, 4, 3]).cast("float32"))).toThrow(
    /LayerNorm2d takes an input of rank 4/,
  );
  expect(Object.keys(new LayerNorm2d(4, { bias: false }).stateDict())).toEqual(["weight"]);
  expect(Object.keys(new LayerNorm2d(4, { elementwiseAffine: false }).stateDict())).toEqual([]);
});
