import { describe, expect, test } from "vitest";
import { normal } from "../../tests/conformance/op_harness.js";
import { type Tensor, tensor } from "../autograd/index.js";
import { Random } from "../base/random.js";
import * as nn from "./index.js";
import * as init from "./init.js";

describe("init", () => {
  const random = () => new Random(17);
  const big = () => normal([200, 100]);
  const moments = (t: Tensor) => [t.mean().item(), Math.sqrt(t.variance().item())] as const;

  test.each([
    ["uniform_", () => init.uniform_(big(), -1, 3, random()), 1, 4 / Math.sqrt(12)],
    ["normal_", () => init.normal_(big(), 2, 0.5, random()), 2, 0.5],
    ["xavierUniform_", () => init.xavierUniform_(big(), 2, random()), 0, 2 * Math.sqrt(2 / 300)],
    ["xavierNormal_", () => init.xavierNormal_(big(), 1, random()), 0, Math.sqrt(2 / 300)],
    ["kaimingUniform_", () => init.kaimingUniform_(big(), { nonlinearity: "relu" }, random()), 0, Math.sqrt(2 / 100)],
    ["kaimingNormal_", () => init.kaimingNormal_(big(), { mode: "fanOut" }, random()), 0, Math.sqrt(2 / 200)],
    ["kaimingUniform_ a", () => init.kaimingUniform_(big(), { a: 2 }, random()), 0, Math.sqrt(2 / 5 / 100)],
    // Normal cut at two standard deviations: variance 1 - 4 phi(2) / (2 Phi(2) - 1).
    ["truncNormal_", () => init.truncNormal_(big(), 0, 1, -2, 2, random()), 0, 0.87962566103423978],
  ])("%s has the mean and the spread it should", (_name, make, mean, std) => {
    const [m, s] = moments(make());
    // 20,000 draws: three standard errors of the mean, and of the spread of a normal variable.
    expect(Math.abs(m - mean)).toBeLessThan((3 * std) / Math.sqrt(20_000));
    expect(Math.abs(s / std - 1)).toBeLessThan(3 / Math.sqrt(2 * 20_000));
  });

  test("bounds hold", () => {
    const values = [...init.uniform_(big(), -1, 3, random()).dataSync(), ...init.truncNormal_(big()).dataSync()];
    expect(Math.max(...values)).toBeLessThan(3);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-2);
  });

  test.each([
    [7, 4],
    [4, 7],
    [5, 5],
    [6, 2, 2, 2],
  ])("orthogonal_ %i x %i has orthonormal rows or columns", (...shape) => {
    const m = init.orthogonal_(normal(shape), 2, random()).reshape([shape[0]!, -1]);
    const wide = m.shape[0]! <= m.shape[1]!;
    const gram = (wide ? m.matmul(m, { transposeB: true }) : m.matmul(m, { transposeA: true })).toArray() as number[][];
    for (const [i, row] of gram.entries())
      for (const [j, v] of row.entries()) expect(v).toBeCloseTo(i === j ? 4 : 0, 12);
  });

  test("constants, and the identity", () => {
    expect(init.constant_(normal([2]), 3).toArray()).toEqual([3, 3]);
    expect(init.eye_(normal([2, 3])).toArray()).toEqual([
      [1, 0, 0],
      [0, 1, 0],
    ]);
    expect(init.calculateGain("leakyRelu", 2)).toBeCloseTo(Math.sqrt(0.4), 15);
    expect(init.calculateGain("tanh")).toBeCloseTo(5 / 3, 15);
  });

  test("Linear and Conv begin as in torch: weight and bias uniform in +-1 / sqrt(fanIn)", () => {
    for (const layer of [new nn.Linear(64, 500), new nn.Conv2d(16, 125, 4, { groups: 1 })]) {
      const bound = 1 / Math.sqrt(layer instanceof nn.Linear ? 64 : 256);
      for (const p of layer.parameters()) {
        const values = p.dataSync();
        expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound * (1 + 1e-7));
        expect(Math.max(...values)).toBeGreaterThan(bound * 0.9);
      }
    }
  });

  test.each([
    ["a gain by another name", () => init.calculateGain("rely" as "relu"), /Did you mean "relu"/],
    ["a mode by another name", () => init.kaimingNormal_(big(), { mode: "fanin" as "fanIn" }), /Did you mean "fanIn"/],
    ["vectors without fans", () => init.xavierUniform_(normal([3])), /\[out, in, \.\.\.kernel\]; got \[3\]/],
    ["an empty interval", () => init.truncNormal_(big(), 0, 1, 5, 4), /low < high/],
    ["an interval far out", () => init.truncNormal_(big(), 0, 1, 5, 6), /within 2 std/],
    ["int32", () => init.ones_(tensor([1], { dtype: "int32" })), /float32 or float64; got int32/],
    ["NaN", () => init.uniform_(big(), Number.NaN), /low must be finite; got NaN/],
  ])("refuses %s", (_what, call, text) => {
    expect(call).toThrow(text);
  });
});
