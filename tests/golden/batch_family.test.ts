import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import type { Module } from "../../src/nn/module.js";
import * as exported from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";
import { prepareRanks, type Ranks, valuesOf } from "../distributed/ranks.js";
import type { LayerJob, LayerResult } from "../distributed/sync_jobs.js";

interface Step {
  readonly shape: number[];
  readonly training: boolean;
  readonly x: number[];
  readonly dy: number[];
  readonly mask?: number[];
  readonly maskShape?: number[];
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
  readonly options: object;
  readonly weight: number[];
  readonly bias: number[];
  /** What FrozenBatchNorm starts with. */
  readonly runningMean?: number[];
  readonly runningVar?: number[];
  /** SyncBatchNorm: samples of each rank. */
  readonly shards?: number[];
  readonly steps: Step[];
}

type NormLayer = Module & {
  weight: Tensor;
  bias: Tensor;
  runningMean?: Tensor;
  runningVar?: Tensor;
  numBatchesTracked?: Tensor;
};

const file = new URL("./batch_family.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };
const layers = exported as unknown as Record<string, new (...args: unknown[]) => NormLayer>;

function hold(
  got: ArrayLike<number> | undefined,
  want: ArrayLike<number> | undefined,
  what: string,
  tolerance: number,
) {
  expect(got?.length, `length of ${what}`).toBe(want?.length);
  if (got && want) expect(relativeError(got, want), what).toBeLessThanOrEqual(tolerance);
}

function follow(c: Case, dtype: DType, tolerance: number): void {
  const m = new layers[c.layer]!(...c.args, { ...c.options, dtype });
  m.weight.assign(c.weight);
  m.bias.assign(c.bias);
  if (c.runningMean) m.runningMean!.assign(c.runningMean);
  if (c.runningVar) m.runningVar!.assign(c.runningVar);
  for (const [i, step] of c.steps.entries()) {
    m.train(step.training).zeroGrad();
    const mask = step.mask ? [tensor(step.mask, { shape: step.maskShape!, dtype: "int32" })] : [];
    const y = m.forward(tensor(step.x, { shape: step.shape, dtype }), ...mask);
    const dx = m.backward(tensor(step.dy, { shape: step.shape, dtype }));
    const of = (t?: Tensor | null) => t?.dataSync();
    hold(of(y), step.y, `step ${i}: y`, tolerance);
    hold(of(dx), step.dx, `step ${i}: dx`, tolerance);
    hold(of(m.weight.grad), step.weightGrad, `step ${i}: weightGrad`, tolerance);
    hold(of(m.bias.grad), step.biasGrad, `step ${i}: biasGrad`, tolerance);
    if (step.runningMean) hold(of(m.runningMean), step.runningMean, `step ${i}: runningMean`, tolerance);
    if (step.runningVar) hold(of(m.runningVar), step.runningVar, `step ${i}: runningVar`, tolerance);
    if (step.numBatchesTracked !== undefined) expect(m.numBatchesTracked!.item()).toBe(step.numBatchesTracked);
  }
  m.dispose();
}

/** The same over ranks; they evaluate no step, since that is BatchNorm's evaluation. */
async function followOnRanks(ranks: Ranks, c: Case, dtype: DType, tolerance: number): Promise<void> {
  const steps = c.steps.filter((s) => s.training);
  const sample = steps[0]!.shape.slice(1);
  const size = sample.reduce((a, b) => a * b);
  let start = 0;
  const jobs = c.shards!.map((n): LayerJob => {
    const [from, to] = [start * size, (start + n) * size];
    start += n;
    const cut = (v: number[]) => Float64Array.from(v.slice(from, to));
    const each = steps.map(({ x, dy }) => ({ shape: [n, ...sample], x: cut(x), dy: cut(dy) }));
    return { dtype, options: c.options, features: c.args[0] as number, weight: c.weight, bias: c.bias, steps: each };
  });
  const got = valuesOf(await ranks.run<LayerResult>(jobs.length, "layerSteps", jobs));
  for (const [i, step] of steps.entries()) {
    const joined = (what: "y" | "dx") => got.flatMap((r) => r.steps[i]![what]);
    const sum = (what: "weight" | "bias") =>
      got.map((r) => r.steps[i]![what]).reduce((a, b) => a.map((v, k) => v + b[k]!));
    hold(joined("y"), step.y, `step ${i}: y`, tolerance);
    hold(joined("dx"), step.dx, `step ${i}: dx`, tolerance);
    hold(sum("weight"), step.weightGrad, `step ${i}: weightGrad`, tolerance);
    hold(sum("bias"), step.biasGrad, `step ${i}: biasGrad`, tolerance);
  }
  for (const r of got) {
    hold(r.runningMean, steps.at(-1)!.runningMean, "runningMean", tolerance);
    hold(r.runningVar, steps.at(-1)!.runningVar, "runningVar", tolerance);
  }
}

let ranks: Ranks;
beforeAll(async () => {
  ranks = await prepareRanks();
});
afterAll(() => ranks.dispose());

describe("values recorded by batch_family.py, over training steps and an evaluation", () => {
  for (const c of cases) {
    const name = `${c.layer}(${JSON.stringify(c.args).slice(1, -1)}) ${JSON.stringify(c.options)} on [${c.steps[0]!.shape}]`;
    for (const [dtype, tolerance] of [
      // The file keeps 12 digits.
      ["float64", 1e-11],
      ["float32", 1e-6],
    ] as const) {
      test(`${name}, ${dtype}`, () => follow(c, dtype, tolerance));
      if (!c.shards) continue;
      test(`${name} as [${c.shards}], ${dtype}`, () => followOnRanks(ranks, c, dtype, tolerance));
    }
  }
});
