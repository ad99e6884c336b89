import * as ort from "onnxruntime-web";
import { afterAll, describe, expect, test } from "vitest";
import { manualSeed, nn, noGrad, randn, scope } from "../../../src/index.js";
import { exportOnnx } from "../../../src/io/index.js";
import { difference, runOnnx } from "./ort.js";

// The figures of docs/onnx.md are what this file prints when it is run alone.

const layers: [string, (size: number) => nn.Module][] = [
  ["BatchNorm", () => new nn.BatchNorm2d(32, { momentum: 1 })],
  ["LayerNorm", (size) => new nn.LayerNorm([32, size, size])],
  ["GroupNorm", () => new nn.GroupNorm(8, 32)],
  ["InstanceNorm", () => new nn.InstanceNorm2d(32)],
  ["RMSNorm", (size) => new nn.RMSNorm([32, size, size])],
  ["MeanVarianceNorm", () => new nn.MeanVarianceNorm()],
];
const forms = [
  { opset: 17, accurate: false },
  { opset: 21, accurate: false },
  { opset: 17, accurate: true },
  { opset: 21, accurate: true },
] as const;

const lines: string[] = [];
afterAll(() => console.info(lines.join("\n")));

describe.each(layers)("%s", (name, make) => {
  test.each([0, 100, 1000, 10_000])("keeps its digits with a mean of %i standard deviations", async (mean) => {
    manualSeed(0);
    const x = scope(() => randn([4, 32, 16, 16]).add(mean));
    const model = make(16);
    noGrad(() => model.forward(x));
    model.eval();
    const files = forms.map((form) => exportOnnx(model, x, form));
    const ours = noGrad(() => model.forward(x)).dataSync();
    model.to("float64");
    const exact = noGrad(() => model.forward(x.cast("float64"))).dataSync();
    const errors = [difference(ours, exact)];
    for (const bytes of files) {
      errors.push(difference((await runOnnx(bytes, { input: x })).get("output")!.data, exact));
    }
    lines.push(
      `${name}, mean ${mean}: ours, 17, 21, accurate 17 and 21: ${errors.map((e) => e.toExponential(1)).join(", ")}`,
    );
    // A few roundings of float32, none of them grown by the mean.
    for (const error of errors.slice(-2)) expect(error).toBeLessThan(3e-6);
  });

  test("is the same layer in every form, at a cost that is printed", async () => {
    const x = randn([8, 32, 28, 28]);
    const model = make(28);
    noGrad(() => model.forward(x));
    const feeds = { input: new ort.Tensor("float32", x.dataSync() as Float32Array, x.shape) };
    const ours = noGrad(() => model.eval().forward(x)).dataSync();
    const times: number[] = [];
    for (const form of forms.slice(0, 3)) {
      const session = await ort.InferenceSession.create(exportOnnx(model, x, form));
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 25; i++) {
        const began = performance.now();
        const { output } = await session.run(feeds);
        best = Math.min(best, performance.now() - began);
        if (i === 0) expect(difference(output!.data as Float32Array, ours)).toBeLessThan(3e-6);
      }
      times.push(best);
      await session.release();
    }
    lines.push(`${name}, ms at 17, 21, accurate: ${times.map((t) => t.toFixed(2)).join(", ")}`);
  });
});
