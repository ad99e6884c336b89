import { describe, expect, test } from "vitest";
import { relativeError } from "../../../tests/conformance/harness.js";
import { normContract } from "../../../tests/conformance/norm_contract.js";
import { normal } from "../../../tests/conformance/op_harness.js";
import { grad, type Tensor, tensor, zeros } from "../../autograd/index.js";
import { DTypeError, OptionError, ShapeError } from "../../base/errors.js";
import * as F from "./functional.js";
import { ScaleNorm, UnitNorm } from "./index.js";

const values = (t: Tensor | null | undefined) => [...t!.dataSync()];

normContract({
  name: "UnitNorm",
  uncaptured: "it looks for rows shorter than eps",
  make: (o) => new UnitNorm(-1, o),
  shape: [3, 2, 5],
  state: [],
  wrong: null,
  lone: { shape: [1, 1], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

normContract({
  name: "ScaleNorm",
  uncaptured: "it looks for rows shorter than eps",
  make: (o) => new ScaleNorm(2, o),
  shape: [3, 2, 5],
  state: ["scale"],
  wrong: [],
  lone: { shape: [1, 1], works: true },
  constant: "finite",
  spreads: [2],
  sameInEval: true,
});

describe("normalize", () => {
  const x = normal([3, 5, 4]);

  test("by plain loops, for each p and several axes", () => {
    const data = values(x);
    for (const p of [0, 0.5, 1, 2, 3, Number.POSITIVE_INFINITY]) {
      for (const dim of [0, 1, 2, -1, [0, 2], [1, 2]]) {
        const axes = (typeof dim === "number" ? [dim] : dim).map((a) => (a + 3) % 3);
        const place = (i: number) =>
          [Math.floor(i / 20), Math.floor(i / 4) % 5, i % 4].map((v, a) => (axes.includes(a) ? 0 : v)).join();
        const lengths = new Map<string, number>();
        for (const [i, v] of data.entries()) {
          const before = lengths.get(place(i)) ?? 0;
          const more = p === 0 ? Number(v !== 0) : Math.abs(v) ** p;
          lengths.set(place(i), p === Number.POSITIVE_INFINITY ? Math.max(before, Math.abs(v)) : before + more);
        }
        const root = (v: number) => (p > 0 && Number.isFinite(p) ? v ** (1 / p) : v);
        const want = data.map((v, i) => v / root(lengths.get(place(i))!));
        expect(relativeError(values(F.normalize(x, { p, dim })), want), `p ${p}, dim ${dim}`).toBeLessThanOrEqual(
          1e-14,
        );
      }
    }
  });

  test("a vector of zeros gives zeros, and dy / eps as its gradient", () => {
    for (const p of [0, 0.5, 1, 2, 3, Number.POSITIVE_INFINITY]) {
      const t = tensor(
        [
          [0, 0, 0],
          [3, 0, 4],
        ],
        { requiresGrad: true },
      );
      const y = F.normalize(t, { p, eps: 0.5 });
      expect(values(y).slice(0, 3)).toEqual([0, 0, 0]);
      const dx = values(
        grad(y, t, {
          gradOutput: tensor([
            [1, 2, 3],
            [1, 2, 3],
          ]),
        }),
      );
      expect(dx.slice(0, 3)).toEqual([2, 4, 6]);
      for (const v of dx) expect(v).toSatisfy(Number.isFinite);
    }
    // eps 0: a norm of 0 divides nothing, for the norm that the layers use.
    const t = tensor([[0, 0]], { requiresGrad: true });
    const y = F.normalize(t, { eps: 0 });
    expect(values(y)).toEqual([0, 0]);
    expect(values(grad(y, t, { gradOutput: tensor([[1, 2]]) }))).toEqual([0, 0]);
  });

  test("empty inputs", () => {
    for (const p of [1, 2]) {
      expect(F.normalize(zeros([0, 3]), { p }).shape).toEqual([0, 3]);
      expect(F.normalize(zeros([3, 0]), { p }).shape).toEqual([3, 0]);
    }
  });

  test("what it refuses", () => {
    expect(() => F.normalize(x, { p: -1 })).toThrow(/p must be a number of at least 0, or Infinity; got -1/);
    expect(() => F.normalize(x, { p: Number.NaN })).toThrow(OptionError);
    expect(() => F.normalize(x, { dim: 3 })).toThrow(ShapeError);
    expect(() => F.normalize(x, { dim: [] })).toThrow(OptionError);
    expect(() => F.normalize(x, { dim: [1, -2] })).toThrow(/Each axis may be named once/);
    expect(() => F.normalize(x, { eps: -1 })).toThrow(OptionError);
    for (const p of [1, 2]) expect(() => F.normalize(zeros([2, 3], { dtype: "int32" }), { p })).toThrow(DTypeError);
    expect(() => new UnitNorm(0.5)).toThrow(OptionError);
    expect(() => new UnitNorm(3).forward(x)).toThrow(ShapeError);
    expect(() => new ScaleNorm(Number.POSITIVE_INFINITY)).toThrow(/ScaleNorm: scale must be a finite number/);
  });
});

test("ScaleNorm begins at the length it was given, and UnitNorm is ScaleNorm(1)", () => {
  const x = normal([4, 7]);
  const lengths = (t: Tensor) => values(t.square().sum([-1]).sqrt());
  for (const v of lengths(new ScaleNorm(Math.sqrt(7), { dtype: "float64" }).forward(x)))
    expect(v).toBeCloseTo(Math.sqrt(7), 7);
  const unit = new UnitNorm(-1, { eps: 1e-5 }).forward(x);
  expect(values(new ScaleNorm(1, { dtype: "float64" }).forward(x))).toEqual(values(unit));
});
