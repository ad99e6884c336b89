import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad, type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import type { Module } from "../../src/nn/module.js";
import { normalize } from "../../src/nn/norm/functional.js";
import * as layers from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

interface Case {
  readonly layer: string;
  readonly args: unknown[];
  readonly options: Record<string, unknown>;
  readonly shape: number[];
  readonly params: Record<string, number[]>;
  readonly x: number[];
  readonly dy: number[];
  readonly y: number[];
  readonly dx: number[];
  readonly grads: Record<string, number[]>;
}

const file = new URL("./light.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

const optionsOf = ({ options }: Case) =>
  options.p === "Infinity" ? { ...options, p: Number.POSITIVE_INFINITY } : options;

/** y, dx, and gradients of the parameters by name. */
function results(c: Case, dtype: DType): [string, Tensor, number[]][] {
  const [x, dy] = [c.x, c.dy].map((data) => tensor(data, { shape: c.shape, dtype })) as [Tensor, Tensor];
  if (c.layer === "normalize") {
    x.requiresGrad = true;
    const y = normalize(x, optionsOf(c));
    return [
      ["y", y, c.y],
      ["dx", grad(y, x, { gradOutput: dy }), c.dx],
    ];
  }
  const Layer = (layers as unknown as Record<string, new (...a: unknown[]) => Module>)[c.layer]!;
  const layer = new Layer(...c.args, { ...optionsOf(c), dtype });
  const params = Object.fromEntries(layer.namedParameters());
  expect(Object.keys(params).sort()).toEqual(Object.keys(c.params).sort());
  for (const [name, values] of Object.entries(c.params)) params[name]!.assign(values);
  const y = layer.forward(x);
  const dx = layer.backward(dy);
  const grads = Object.entries(c.grads).map(([name, want]): [string, Tensor, number[]] => [
    name,
    params[name]!.grad!,
    want,
  ]);
  return [["y", y, c.y], ["dx", dx, c.dx], ...grads];
}

function check(c: Case, dtype: DType, tolerance: number): void {
  for (const [what, got, want] of results(c, dtype)) {
    expect(got.size, what).toBe(want.length);
    expect(relativeError(got.dataSync(), want), what).toBeLessThanOrEqual(tolerance);
  }
}

describe("values recorded from torch and from the papers' formulas (light.py)", () => {
  for (const c of cases) {
    const name = `${c.layer}(${JSON.stringify(c.args).slice(1, -1)}) ${JSON.stringify(c.options)} on [${c.shape}]`;
    test(`${name}, float64`, () => check(c, "float64", 1e-13));
    test(`${name}, float32`, () => check(c, "float32", 1e-6));
  }

  test("cover each layer", () => {
    const names = ["DyT", "Derf", "FilterResponseNorm", "GRN", "LayerNorm2d", "LocalResponseNorm", "MapLRN"];
    names.push("MeanVarianceNorm", "ScaleNorm", "TLU", "UnitNorm", "normalize");
    expect([...new Set(cases.map((c) => c.layer))].sort()).toEqual(names.sort());
  });
});
