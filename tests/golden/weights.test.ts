import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import {
  Conv1d,
  Conv2d,
  ConvTranspose2d,
  Linear,
  type Module,
  spectralNorm,
  weightNorm,
  weightStandardization,
} from "../../src/nn/index.js";
import { relativeError } from "../conformance/harness.js";

const layers = { Linear, Conv1d, Conv2d, ConvTranspose2d };
const kinds = { weightNorm, spectralNorm, weightStandardization };

interface Case {
  readonly layer: keyof typeof layers;
  readonly args: readonly number[];
  readonly options: object;
  readonly kind: keyof typeof kinds;
  readonly how: object;
  readonly state: Record<string, { shape: number[]; data: number[] }>;
  readonly steps: {
    readonly training: boolean;
    readonly shape: number[];
    readonly x: number[];
    readonly yShape: number[];
    readonly dy: number[];
    readonly y: number[];
    readonly dx: number[];
    readonly grads: Record<string, number[]>;
    readonly buffers: Record<string, number[]>;
  }[];
}

const file = new URL("./weights_torch.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

function follow({ layer, args, options, kind, how, state, steps }: Case, dtype: DType, tolerance: number): void {
  const Layer = layers[layer] as unknown as new (...args: unknown[]) => Module;
  const m = kinds[kind](new Layer(...args, { ...options, dtype }), how);
  // Here and in torch the state has these names in this order, but that torch lists a kept weight first.
  expect(Object.keys(m.stateDict()).sort()).toEqual(Object.keys(state).sort());
  m.loadStateDict(state);
  const close = (got: ArrayLike<number>, want: number[], what: string) =>
    expect(relativeError(got, want), what).toBeLessThanOrEqual(tolerance);
  for (const [i, step] of steps.entries()) {
    m.train(step.training);
    const y = m.forward(tensor(step.x, { shape: step.shape, dtype }));
    const dx = m.backward(tensor(step.dy, { shape: step.yShape, dtype }));
    expect([y.shape, dx.shape]).toEqual([step.yShape, step.shape]);
    close(y.dataSync(), step.y, `step ${i}: y`);
    close(dx.dataSync(), step.dx, `step ${i}: dx`);
    expect(
      m
        .namedParameters()
        .map(([name]) => name)
        .sort(),
    ).toEqual(Object.keys(step.grads).sort());
    for (const [name, p] of m.namedParameters()) close(p.grad!.dataSync(), step.grads[name]!, `step ${i}: ${name}`);
    for (const [name, b] of m.namedBuffers()) close(b.dataSync(), step.buffers[name]!, `step ${i}: ${name}`);
  }
}

describe("values recorded from torch (weights_torch.py)", () => {
  for (const c of cases) {
    const name = `${c.kind} ${JSON.stringify(c.how)} of ${c.layer}(${c.args}) ${JSON.stringify(c.options)}`;
    test(`${name}, float64`, () => follow(c, "float64", 1e-12));
    test(`${name}, float32`, () => follow(c, "float32", 2e-6));
  }
});
