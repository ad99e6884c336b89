import { expect, test } from "vitest";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { type Tensor, tensor } from "../../autograd/index.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { weightDecayGroups } from "../../optim/groups.js";
import { Derf, DyT } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];
const bad = [{ alphaInit: Number.NaN }, { alphaInit: "1" }, { affine: 1 }];

normContract({
  name: "DyT",
  make: (o) => new DyT(4, o),
  shape: [2, 3, 4],
  state: ["alpha", "weight", "bias"],
  bad,
  wrong: [2, 4, 3],
  lone: { shape: [1, 4], works: true },
  constant: "finite",
  spreads: [],
  sameInEval: true,
});

normContract({
  name: "Derf",
  make: (o) => new Derf([3, 4], o),
  shape: [2, 3, 4],
  state: ["alpha", "weight", "bias", "shift"],
  bad: [...bad, { shiftInit: Number.POSITIVE_INFINITY }],
  wrong: [2, 4, 3],
  lone: { shape: [1, 3, 4], works: true },
  constant: "finite",
  spreads: [],
  sameInEval: true,
});

test("their formulas", () => {
  const x = tensor([[-2, 0, 1]], { dtype: "float64" });
  const dyt = new DyT(3, { dtype: "float64", alphaInit: 0.8 });
  dyt.weight!.assign([1, 2, 3]);
  dyt.bias!.assign([0.5, 0.25, 0]);
  const want = [Math.tanh(-1.6) + 0.5, 0.25, 3 * Math.tanh(0.8)];
  for (const [i, v] of values(dyt.forward(x)).entries()) expect(v).toBeCloseTo(want[i]!, 14);
  const derf = new Derf(3, { dtype: "float64", alphaInit: 1, shiftInit: 1, affine: false });
  // erf(1) and erf(2), from tables.
  const tabled = [-0.8427007929497149, 0.8427007929497149, 0.9953222650189527];
  for (const [i, v] of values(derf.forward(x)).entries()) expect(v).toBeCloseTo(tabled[i]!, 14);
});

test("large inputs stay within weight and bias, and their gradient is 0", () => {
  for (const layer of [new DyT(3), new Derf(3)]) {
    expect(values(layer.forward(tensor([[1e19, -1e19, 3e38]])))).toEqual([1, -1, 1]);
    expect(values(layer.backward(tensor([[1, 2, 3]])))).toEqual([0, 0, 0]);
    expect(values(layer.alpha.grad)).toEqual([0]);
  }
});

test("nothing of them decays", () => {
  expect(weightDecayGroups(new DyT([3, 4]), 0.1)).toHaveLength(1);
  expect(weightDecayGroups(new Derf([3, 4]), 0.1)[0]!.weightDecay).toBe(0);
});

test("what they refuse", () => {
  expect(() => new DyT(0)).toThrow(ShapeError);
  expect(() => new Derf([2.5])).toThrow(/Derf: normalizedShape must be/);
  expect(() => new DyT(4, { alphaInt: 1 } as never)).toThrow(/Did you mean "alphaInit"\?/);
  expect(() => new Derf(4, { shiftInit: Number.NaN })).toThrow(OptionError);
});
