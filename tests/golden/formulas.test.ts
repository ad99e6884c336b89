import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad, type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { scope } from "../../src/memory/scope.js";
import * as F from "../../src/nn/functional.js";
import type { Module } from "../../src/nn/module.js";
import * as norms from "../../src/nn/norm/index.js";
import { relativeError } from "../conformance/harness.js";

interface Recorded {
  readonly shape: number[];
  readonly dtype?: "int32";
  readonly data: number[];
}

interface Case {
  readonly layer: string;
  readonly args: unknown[];
  readonly options: Record<string, unknown>;
  /** Parameters and buffers before the first step; the parameters stay what they are. */
  readonly state: Record<string, Recorded>;
  readonly steps: readonly {
    readonly training: boolean;
    readonly inputs: Recorded[];
    readonly dy: Recorded;
    readonly y: Recorded;
    readonly inputGrads: (Recorded | null)[];
    readonly grads: Record<string, Recorded>;
    readonly state: Record<string, Recorded>;
  }[];
}

const read = (r: Recorded, dtype: DType): Tensor => tensor(r.data, { shape: r.shape, dtype: r.dtype ?? dtype });

function layerOf({ layer, args, options, state }: Case, dtype: DType): Module | null {
  if (layer.startsWith("F.")) return null;
  const Layer = (norms as unknown as Record<string, new (...a: unknown[]) => Module>)[layer]!;
  const made = new Layer(...args, { ...options, dtype });
  made.loadStateDict(state);
  return made;
}

function follow(c: Case, dtype: DType, tolerance: number): number {
  const layer = layerOf(c, dtype);
  let worst = 0;
  const close = (actual: Tensor, want: Recorded, what: string) => {
    expect(actual.shape, what).toEqual(want.shape);
    const error = relativeError(actual.dataSync(), want.data);
    expect(error, what).toBeLessThanOrEqual(tolerance);
    worst = Math.max(worst, error);
  };
  for (const [i, step] of c.steps.entries()) {
    const inputs = step.inputs.map((r) => read(r, dtype));
    for (const [k, g] of step.inputGrads.entries()) if (g) inputs[k]!.requiresGrad = true;
    const [x, condition] = inputs as [Tensor, Tensor];
    const y = layer ? layer.train(step.training).forward(...inputs) : F.adaIN(x, condition, c.options);
    const named = layer?.namedParameters() ?? [];
    expect(Object.keys(step.grads).sort()).toEqual(named.map(([name]) => name).sort());
    const learned = inputs.filter((t) => t.requiresGrad);
    const found = grad(y, [...learned, ...named.map(([, p]) => p)], { gradOutput: read(step.dy, dtype) });
    const wanted = [...step.inputGrads.filter((g) => g !== null), ...named.map(([name]) => step.grads[name]!)];
    close(y, step.y, `output ${i}`);
    for (const [k, g] of found.entries()) close(g, wanted[k]!, `gradient ${k} of step ${i}`);
    const state = layer?.stateDict() ?? {};
    for (const [name, want] of Object.entries(step.state)) close(state[name]!, want, `${name} after step ${i}`);
  }
  layer?.dispose();
  return worst;
}

describe.each(["mixed.json", "conditional.json"])("layers by their papers' formulas: %s", (file) => {
  const { cases } = JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8")) as { cases: Case[] };
  test.each(cases.map((c, i) => [`${i}: ${c.layer}(${c.args}) ${JSON.stringify(c.options)}`, c] as const))(
    "%s",
    (_name, c) => {
      // The record has 15 digits.
      scope(() => follow(c, "float64", 1e-12));
      // Rounding of float32; sums of a few dozen terms.
      scope(() => follow(c, "float32", 2e-6));
    },
  );
});
