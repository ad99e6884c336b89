import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad, type Tensor, tensor } from "../../src/autograd/index.js";
import type { DType } from "../../src/base/dtype.js";
import { scope } from "../../src/memory/scope.js";
import * as nn from "../../src/nn/index.js";
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
  readonly inputs: Recorded[];
  /** Which input stands at each place of the call: self-attention takes one three times. */
  readonly order: number[];
  readonly masks?: Record<string, unknown>;
  readonly weights?: Recorded;
  readonly state: Record<string, Recorded>;
  readonly stateGrads: Record<string, Recorded>;
  readonly y: Recorded;
  readonly dy: Recorded;
  readonly inputGrads: (Recorded | null)[];
}

const file = new URL("./layers_torch.json", import.meta.url);
const cases = JSON.parse(readFileSync(file, "utf8")) as Case[];

const read = (r: Recorded, dtype: DType): Tensor => tensor(r.data, { shape: r.shape, dtype: r.dtype ?? dtype });
const isRecorded = (v: unknown): v is Recorded => typeof v === "object" && v !== null && "data" in v;
const readAll = (values: Record<string, unknown>, dtype: DType) =>
  Object.fromEntries(Object.entries(values).map(([k, v]) => [k, isRecorded(v) ? read(v, dtype) : v]));

function follow(c: Case, dtype: DType, tolerance: number): void {
  const Layer = (nn as unknown as Record<string, new (...a: unknown[]) => nn.Module>)[c.layer]!;
  // Layers whose arguments all have defaults take their options after them.
  const args = c.layer === "Flatten" ? [1, -1] : c.args;
  const layer = new Layer(...args, { ...readAll(c.options, dtype), dtype });
  layer.loadStateDict(c.state, { strict: false });
  const names = layer.namedParameters().map(([name]) => name);
  expect(names.sort()).toEqual(Object.keys(c.state).sort());

  const inputs = c.inputs.map((r) => read(r, dtype));
  for (const [i, x] of inputs.entries()) if (c.inputGrads[i]) x.requiresGrad = true;
  const call = [...c.order.map((i) => inputs[i]!), ...(c.masks ? [readAll(c.masks, dtype)] : [])];
  const y = layer.forward(...call);
  const close = (actual: Tensor, want: Recorded, what: string) => {
    expect(actual.shape, what).toEqual(want.shape);
    expect(relativeError(actual.dataSync(), want.data), what).toBeLessThanOrEqual(tolerance);
  };
  close(y, c.y, "output");
  if (c.weights) {
    const attention = layer as nn.MultiheadAttention;
    close(attention.attend(...(call as Parameters<typeof attention.attend>)).weights, c.weights, "weights");
  }
  const learned = inputs.filter((x) => x.requiresGrad);
  const found = grad(y, [...learned, ...layer.parameters()], { gradOutput: read(c.dy, dtype) });
  const wanted = [
    ...c.inputGrads.filter((g) => g !== null),
    ...layer.namedParameters().map(([name]) => c.stateGrads[name]!),
  ];
  for (const [i, g] of found.entries()) close(g, wanted[i]!, `gradient ${i}`);
  layer.dispose();
}

describe("layers and losses as torch computes them", () => {
  for (const [i, c] of cases.entries()) {
    const options = JSON.stringify(c.options, (_k, v) => (isRecorded(v) ? `[${v.data}]` : v));
    test(`${i}: ${c.layer}(${c.args}) ${options} of [${c.inputs.map((x) => x.shape).join("], [")}]`, () => {
      // The record has 13 digits.
      scope(() => follow(c, "float64", 1e-11));
      // Rounding of float32; the sums here have at most a few hundred terms.
      scope(() => follow(c, "float32", 4e-6));
    });
  }
});
