import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { F, Random, type Tensor, tensor } from "../../src/index.js";
import { loadOnnx, type OnnxModule } from "../../src/io/index.js";
import { initWebGPU } from "../../src/kernels/webgpu/index.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";
import { modelBytes, type Numbers } from "../io/onnx_model.js";
import { ownTensor } from "../io/onnx_runtime.js";
import { floats, normal } from "../io/onnx_small.js";

const folder = fileURLToPath(new URL("../io/files/", import.meta.url));
const { models } = JSON.parse(readFileSync(`${folder}onnx_torch.json`, "utf8")) as {
  models: Record<string, { input: Numbers }>;
};

/** Nodes that read floats as numbers: scales, limits, a filling. */
const reading: Uint8Array = modelBytes({
  opset: 17,
  inputs: { x: { shape: [2, 3, 4, 5] } },
  initializers: {
    scales: floats([4], [1, 1, 2, 1.5]),
    low: floats([], [-0.5]),
    pads: { type: "int64", shape: [8], data: [0, 0, 1, 0, 0, 0, 0, 2] },
    filling: floats([], [0.25]),
  },
  nodes: [
    { op: "Clip", inputs: ["x", "low"], outputs: ["a"] },
    { op: "Pad", inputs: ["a", "pads", "filling"], outputs: ["b"] },
    { op: "Resize", inputs: ["b", "", "scales"], outputs: ["y"], attributes: { mode: "linear" } },
  ],
});

/** On both devices: the output, and the gradient of its random sum to each parameter. */
async function both(make: () => OnnxModule, x: Tensor): Promise<[number[], number[]][]> {
  const results: [number[], number[]][] = [];
  for (const device of ["cpu", "webgpu"] as const) {
    const m = make().to(device);
    const y = m.forward(x.dtype === "int32" ? x : x.to(device));
    const random = new Random(3);
    const weights = tensor(
      Float32Array.from({ length: y.size }, () => random.normal()),
      { shape: y.shape },
    );
    const loss = F.mseLoss(y, weights.to(device));
    if (m.parameters().length > 0) loss.backward();
    const gradients = await Promise.all(m.parameters().map((p) => p.grad!.data()));
    results.push([Array.from(await y.data()), gradients.flatMap((g) => Array.from(g))]);
    m.dispose();
  }
  return results;
}

const error = (a: number[], b: number[]): number =>
  Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) / Math.max(1, ...a.map(Math.abs));

describe.skipIf(noWebGPU !== null)(`models of ONNX on webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  test.each(Object.keys(models))("%s gives the CPU's numbers, forward and backward", async (name) => {
    await initWebGPU();
    const results = await both(() => loadOnnx(`${folder}torch_${name}.onnx`), ownTensor(models[name]!.input));
    const [cpu, gpu] = results as [[number[], number[]], [number[], number[]]];
    expect(error(cpu[0], gpu[0])).toBeLessThan(2e-6);
    expect(error(cpu[1], gpu[1])).toBeLessThan(2e-6);
    expect(cpu[1].length).toBeGreaterThan(50);
  });

  test("floats that nodes read as numbers are at hand there", async () => {
    await initWebGPU();
    const x = ownTensor(normal(new Random(5), 2, 3, 4, 5));
    const [cpu, gpu] = (await both(() => loadOnnx(reading), x)) as [[number[], number[]], [number[], number[]]];
    expect(gpu[0].length).toBe(2 * 3 * 10 * 10);
    expect(error(cpu[0], gpu[0])).toBeLessThan(1e-6);
  });
});
