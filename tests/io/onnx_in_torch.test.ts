import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { nn, optim, scope, type Tensor, tensor } from "../../src/index.js";
import { loadOnnx } from "../../src/io/index.js";
import type { Numbers } from "./onnx_model.js";
import { difference, ownTensor, type Result, runtimeOutputs } from "./onnx_runtime.js";

const file = (name: string): string => fileURLToPath(new URL(`files/${name}`, import.meta.url));
const recorded = JSON.parse(readFileSync(file("onnx_torch.json"), "utf8")) as {
  models: Record<string, { input: Numbers; output: Result }>;
};
const result = (t: Tensor): Result => ({ shape: t.shape, data: Array.from(t.dataSync()) });
// torch and onnxruntime differ from each other by as much: single precision, some hundred sums one after the other.
const WITHIN = 2e-6;

describe("networks that torch exported", () => {
  for (const [name, { input, output }] of Object.entries(recorded.models)) {
    it(`${name} gives torch's output and onnxruntime's`, async () => {
      const path = file(`torch_${name}.onnx`);
      const m = loadOnnx(path);
      const y = result(m.forward(ownTensor(input)));
      const fromTorch = difference(y, output);
      const bytes = new Uint8Array(readFileSync(path));
      const fromRuntime = difference(y, (await runtimeOutputs(bytes, { input })).get("output")!);
      console.info(
        `onnx ${name}: ${fromTorch.toExponential(1)} from torch, ${fromRuntime.toExponential(1)} from onnxruntime`,
      );
      expect(fromTorch).toBeLessThan(WITHIN);
      expect(fromRuntime).toBeLessThan(WITHIN);
    });
  }

  it("are read with every weight as a parameter", () => {
    const mlp = loadOnnx(file("torch_mlp.onnx"));
    expect(mlp.parameters().reduce((n, p) => n + p.size, 0)).toBe(5 * 9 + 9 + 18 + 18 + 90 + 9 + 40);
    const text = loadOnnx(file("torch_transformer.onnx"));
    // An embedding, places, two layers of attention (in, out), feed-forward and two norms, a last norm and the head.
    const layer = 3 * 8 * 8 + 24 + 8 * 8 + 8 + 2 * 8 * 16 + 24 + 4 * 8;
    expect(text.parameters().reduce((n, p) => n + p.size, 0)).toBe(88 + 48 + 2 * layer + 16 + 27);
  });

  it.each(["cnn_apart", "transformer"])("%s trains: a few steps on its own parameters bring the loss down", (name) => {
    const { input } = recorded.models[name]!;
    const m = loadOnnx(file(`torch_${name}.onnx`)).train();
    const x = ownTensor(input);
    const target = tensor(Int32Array.from({ length: input.shape[0]! }, (_, i) => i % 3));
    const loss = new nn.CrossEntropyLoss();
    const adam = new optim.Adam(m.parameters(), { lr: 0.03 });
    const losses = Array.from({ length: 30 }, () =>
      scope(() => {
        adam.zeroGrad();
        const l = loss.forward(m.forward(x), target);
        l.backward();
        adam.step();
        return l.item();
      }),
    );
    expect(losses[29]!).toBeLessThan(0.7 * losses[0]!);
    expect(m.parameters().every((p) => p.grad !== null)).toBe(true);
  });

  it("end at a value of the graph, for another head", () => {
    const whole = loadOnnx(file("torch_transformer.onnx"));
    const last = whole.valueNames.findLast((n) => /ReduceMean/.test(n))!;
    const body = loadOnnx(file("torch_transformer.onnx"), { outputs: [last] });
    const y = new nn.Sequential(body, new nn.Linear(8, 2)).forward(ownTensor(recorded.models.transformer!.input));
    expect(y.shape).toEqual([3, 2]);
  });
});
