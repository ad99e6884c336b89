import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import type { Module } from "../../src/nn/module.js";
import * as exported from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

interface Step {
  readonly shape: number[];
  readonly training: boolean;
  readonly x: number[];
  readonly dy: number[];
  readonly y: number[];
  readonly dx: number[];
  readonly weightGrad?: number[];
  readonly biasGrad?: number[];
  readonly runningMean?: number[];
  readonly runningVar?: number[];
  readonly numBatchesTracked?: number;
}

interface Case {
  readonly layer: string;
  readonly args: unknown[];
  readonly options: Record<string, unknown>;
  readonly weight: number[] | null;
  readonly bias: number[] | null;
  readonly steps: Step[];
}

type NormLayer = Module & {
  weight: Tensor | null;
  bias?: Tensor | null;
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
  numBatchesTracked?: Tensor | null;
};

const layers = new Map(Object.entries(exported).filter(([name]) => name !== "noStatsUpdate"));
const file = new URL("./norms_torch.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

function build({ layer, args, options, weight, bias }: Case, dtype: DType): NormLayer {
  const given = { ...options, dtype } as Record<string, unknown>;
  if (given.momentum === "max(1/n, 0.4)") given.momentum = (n: number) => Math.max(1 / n, 0.4);
  const Layer = layers.get(layer) as unknown as new (...a: unknown[]) => NormLayer;
  const made = new Layer(...args, given);
  expect(made.weight === null, "weight is there when torch has one").toBe(weight === null);
  expect((made.bias ?? null) === null, "bias is there when torch has one").toBe(bias === null);
  if (weight) made.weight!.assign(weight);
  if (bias) made.bias!.assign(bias);
  return made;
}

function follow(c: Case, dtype: DType, tolerance: number): void {
  const m = build(c, dtype);
  for (const [i, step] of c.steps.entries()) {
    m.train(step.training);
    const y = m.forward(tensor(step.x, { shape: step.shape, dtype }));
    const dx = m.backward(tensor(step.dy, { shape: step.shape, dtype }));
    const results: Record<string, [Tensor | null | undefined, number[] | undefined]> = {
      y: [y, step.y],
      dx: [dx, step.dx],
      weightGrad: [m.weight?.grad, step.weightGrad],
      biasGrad: [m.bias?.grad, step.biasGrad],
      runningMean: [m.runningMean, step.runningMean],
      runningVar: [m.runningVar, step.runningVar],
    };
    expect([y.shape, dx.shape], `step ${i}`).toEqual([step.shape, step.shape]);
    for (const [what, [got, want]] of Object.entries(results)) {
      expect(got ? got.size : undefined, `step ${i}: length of ${what}`).toBe(want?.length);
      if (got && want) {
        expect(relativeError(got.dataSync(), want), `step ${i}: ${what}`).toBeLessThanOrEqual(tolerance);
      }
    }
    if (step.numBatchesTracked !== undefined) expect(m.numBatchesTracked!.item()).toBe(step.numBatchesTracked);
  }
  m.dispose();
}

describe("values recorded from torch (norms_torch.py), over training steps and an evaluation", () => {
  for (const c of cases) {
    const name = `${c.layer}(${JSON.stringify(c.args).slice(1, -1)}) ${JSON.stringify(c.options)} on [${c.steps[0]!.shape}]`;
    test(`${name}, float64`, () => follow(c, "float64", 1e-12));
    test(`${name}, float32`, () => follow(c, "float32", 1e-6));
  }

  test("cover each layer that torch has", () => {
    const names = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d"];
    names.push("InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm");
    expect([...new Set(cases.map((c) => c.layer))].sort()).toEqual(names);
  });
});
