import { afterAll, describe, expect, it } from "vitest";
import { loadOnnx } from "../../src/io/onnx/load_onnx.js";
import { families, meanings } from "../../src/io/onnx/operators/index.js";
import { microsoftOperators } from "../../src/io/onnx/operators/microsoft.js";
import { type Case, cases } from "./onnx_cases.js";
import { modelBytes, type Numbers } from "./onnx_model.js";
import { difference, ownOutputs, runtimeOutputs } from "./onnx_runtime.js";

const largest = new Map<string, number>();
let compared = 0;

/** A model of the one operator; inputs from `from` on stand in the file as initializers. */
function modelOf({ op, inputs, attributes = {}, outputs = 1, domain = "" }: Case, opset: number, from: number) {
  const named = inputs.map((value, i) => ({ name: value ? `x${i}` : "", value }));
  const present = named.filter((n): n is { name: string; value: Numbers } => n.value !== null);
  const fed = present.filter((n) => Number(n.name.slice(1)) < from);
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const bytes = modelBytes({
    opset,
    domains: domain ? { [domain]: 1 } : {},
    nodes: [{ op, domain, attributes, inputs: named.map((n) => n.name), outputs: names }],
    inputs: Object.fromEntries(fed.map(({ name, value }) => [name, { type: value.type, shape: value.shape }])),
    initializers: Object.fromEntries(present.filter((n) => !fed.includes(n)).map(({ name, value }) => [name, value])),
    outputs: names,
  });
  return { bytes, feeds: Object.fromEntries(fed.map(({ name, value }) => [name, value])) };
}

describe("one operator at a time, as onnxruntime computes it", () => {
  for (const [number, one] of cases.entries()) {
    const { op, opsets, within = 1e-5 } = one;
    for (const opset of opsets) {
      it(`${op} ${opset} (${number})`, async () => {
        for (const from of one.inputs.length > 1 ? [one.inputs.length, 1] : [one.inputs.length]) {
          const { bytes, feeds } = modelOf(one, opset, from);
          const expected = await runtimeOutputs(bytes, feeds);
          const model = loadOnnx(bytes);
          const got = ownOutputs(model, feeds);
          model.dispose();
          for (const [name, result] of expected) {
            const d = difference(got.get(name)!, result);
            expect(d, `${name}: ${JSON.stringify(got.get(name))} for ${JSON.stringify(result)}`).toBeLessThanOrEqual(
              within,
            );
            largest.set(op, Math.max(largest.get(op) ?? 0, d));
          }
          compared++;
        }
      });
    }
  }
});

it("compares every operator that is computed", () => {
  const names = [...Object.values(families), microsoftOperators].flatMap(Object.keys);
  const tried = new Set(cases.map((c) => c.op));
  expect(names.filter((name) => !tried.has(name))).toEqual([]);
  for (const { op, domain = "", opsets } of cases) {
    for (const { since, until = 99 } of meanings(domain, op)) {
      const covered = cases.some((c) => c.op === op && c.opsets.some((v) => v >= since && v < until)) || domain !== "";
      expect(covered, `${op} since ${since}`).toBe(true);
    }
    expect(opsets.length).toBeGreaterThan(0);
  }
});

afterAll(() => {
  const list = [...largest].sort((a, b) => b[1] - a[1]);
  const told = list.slice(0, 12).map(([op, d]) => `${op} ${d.toExponential(1)}`);
  console.info(
    `onnx operators: ${largest.size} compared in ${compared} models; largest differences ${told.join(", ")}`,
  );
});
