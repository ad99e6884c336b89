import { expect, test } from "vitest";
import { noGrad } from "../../../src/index.js";
import { exportOnnx, loadOnnx } from "../../../src/io/index.js";
import { type Case, cases } from "../onnx_cases.js";
import { modelBytes, type Numbers } from "../onnx_model.js";
import { ownTensor } from "../onnx_runtime.js";
import { difference, runOnnx } from "./ort.js";

/** Operators that a loaded model has for floats, and of which forms do not go out again, with what is said of them. */
const refused: Record<string, RegExp> = {
  TopK: /follows the input's numbers/,
  EyeLike: /no op has made of an input/,
};

/** As many of an operator's cases as tell its forms apart, those that go on after a float. */
const SOME = 3;
const byOperator = new Map<string, Case[]>();
for (const one of cases) byOperator.set(one.op, [...(byOperator.get(one.op) ?? []), one]);

/** The one operator with its first input left open. */
function fileOf({ op, inputs, attributes = {}, outputs = 1, domain = "", opsets }: Case): Uint8Array {
  const names = inputs.map((value, k) => (value ? `x${k}` : ""));
  const rest = inputs.flatMap((value, k): [string, Numbers][] => (k > 0 && value ? [[`x${k}`, value]] : []));
  const made = Array.from({ length: outputs }, (_, k) => `y${k}`);
  return modelBytes({
    opset: opsets[opsets.length - 1]!,
    domains: domain ? { [domain]: 1 } : {},
    nodes: [{ op, domain, attributes, inputs: names, outputs: made }],
    inputs: { x0: { type: "float32", shape: inputs[0]!.shape } },
    initializers: Object.fromEntries(rest),
    outputs: made,
  });
}

test("the operators that loadOnnx computes in tensors go out again and give the same", async () => {
  const wrong: string[] = [];
  const written = new Set<string>();
  for (const [op, all] of byOperator) {
    const floats = all.filter(({ inputs: [x] }) => x?.type === "float32" && x.shape.length > 0);
    for (const one of floats.slice(0, SOME)) {
      const model = loadOnnx(fileOf(one), { outputs: ["y0"] });
      const x = ownTensor(one.inputs[0]!);
      const ours = noGrad(() => model.forward(x));
      // Whole numbers and truth values are computed by JavaScript; of nothing there is nothing to write.
      if (ours.dtype === "int32" || ours.size === 0) continue;
      let bytes: Uint8Array;
      try {
        bytes = exportOnnx(model, x);
      } catch (error) {
        expect(String(error), op).toMatch(refused[op] ?? /nothing/);
        continue;
      }
      const ran = (await runOnnx(bytes, { input: x })).get("output")!;
      if (!(difference(ran.data, ours.dataSync()) < 1e-5)) wrong.push(op);
      expect(ran.shape).toEqual(ours.shape);
      written.add(op);
      model.dispose();
    }
  }
  expect(wrong).toEqual([]);
  expect(written.size).toBeGreaterThan(105);
  console.info(`ONNX in and out: ${written.size} operators, refused ${Object.keys(refused).join(", ")}`);
});

test("numbers added at places need opset 16", () => {
  const one = cases.find(({ op, attributes }) => op === "ScatterElements" && attributes?.reduction === "add")!;
  const model = loadOnnx(fileOf(one));
  expect(() => exportOnnx(model, ownTensor(one.inputs[0]!), { opset: 15 })).toThrow(/from opset 16 on; got opset 15/);
});
