import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import { dll, flax, keras, npdl, puzzlelib } from "../../src/compat/index.js";
import type { Module } from "../../src/nn/module.js";
import { relativeError } from "../conformance/harness.js";

interface Step {
  readonly training: boolean;
  readonly y: number[];
  readonly dx: number[];
  /** Of the parameters in the order of `names`, added up over the steps. */
  readonly grads: number[][];
  readonly stats: Record<string, number[]>;
}

interface Case {
  readonly system: string;
  readonly layer: string;
  readonly options: Record<string, unknown>;
  readonly shape: number[];
  readonly names: string[];
  readonly sizes: number[][];
  readonly steps: Step[];
}

type Layer = Module & Record<string, Tensor>;
type DType = "float32" | "float64";

const { cases } = JSON.parse(readFileSync(new URL("./compat.json", import.meta.url), "utf8")) as { cases: Case[] };
const systems: Record<string, Record<string, unknown>> = { dll, npdl, puzzlelib, keras, flax };

/** The same numbers as in compat.py. */
function numbers(shape: readonly number[], seed: number, dtype: DType, count = 257, shift = -2): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  const data = Array.from({ length: n }, (_, i) => (((i * i * 31 + i * 7919 + seed * 104729) % 1009) % count) / 64);
  return tensor(
    data.map((v) => v + shift),
    { shape, dtype },
  );
}

/** A layer that knows its shape, with the first parameters of the script. */
function build({ system, layer, options, shape, names, sizes }: Case, dtype: DType): Layer {
  const Kind = systems[system]![layer] as new (...args: unknown[]) => Layer;
  const made = system === "puzzlelib" ? new Kind(shape[1], { ...options, dtype }) : new Kind(options);
  if (made instanceof npdl.BatchNormal) made.connectTo({ outShape: [null, ...shape.slice(1)] });
  else if ("initialiseLayer" in made)
    (made as unknown as dll.BatchNorm).initialiseLayer({ inputShape: shape.slice(1), dtype });
  else if ("build" in made) (made as unknown as { build(s: unknown): void }).build([null, ...shape.slice(1)]);
  for (const [k, name] of names.entries()) {
    expect(made[name]!.shape).toEqual(sizes[k]);
    made[name]!.assign(numbers(sizes[k]!, 3 + k, "float64", 65, 0.5 - k));
  }
  return made.to(dtype);
}

/** The largest error of all steps, each result's relative to its largest value. */
function follow(c: Case, dtype: DType): number {
  const layer = build(c, dtype);
  let largest = 0;
  const compare = (got: Tensor, want: number[]) => {
    largest = Math.max(largest, relativeError(got.dataSync(), want));
  };
  // npdl's gradients are those of the last backward alone.
  const before = c.names.map((_, k) => new Float64Array(c.steps[0]!.grads[k]!.length));
  for (const [k, step] of c.steps.entries()) {
    layer.train(step.training);
    compare(layer.forward(numbers(c.shape, 10 + k, dtype).add(0.5 * k)), step.y);
    compare(layer.backward(numbers(c.shape, 50 + k, dtype)), step.dx);
    for (const [i, name] of c.names.entries()) {
      const total = step.grads[i]!;
      const want = c.system === "npdl" ? total.map((v, j) => v - before[i]![j]!) : total;
      before[i]!.set(total);
      compare(layer[name]!.grad!, want);
    }
    for (const [name, want] of Object.entries(step.stats)) compare(layer[name]!, want);
  }
  layer.dispose();
  return largest;
}

for (const c of cases) {
  const name = `${c.system}.${c.layer} ${JSON.stringify(c.options)} on [${c.shape}]`;
  // The values are written with 13 digits.
  test(`${name}, float64`, () => expect(follow(c, "float64")).toBeLessThanOrEqual(1e-12));
  test(`${name}, float32`, () => expect(follow(c, "float32")).toBeLessThanOrEqual(2e-6));
}

test("cover every layer of these systems", () => {
  const layers = Object.values(systems).flatMap((s) => Object.values(s).filter((v) => typeof v === "function"));
  const covered = cases.map((c) => systems[c.system]![c.layer]);
  expect(layers.filter((layer) => !covered.includes(layer) && layer !== puzzlelib.BatchNormND)).toEqual([]);
});
