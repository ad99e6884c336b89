import { type Random, type Tensor, tensor } from "../../src/index.js";
import { type LoadOnnxOptions, loadOnnx, type OnnxModule } from "../../src/io/index.js";
import { type GraphInit, type ModelInit, modelBytes, type Numbers } from "./onnx_model.js";

// Small models for the tests of loadOnnx.

export const floats = (shape: number[], data: number[]): Numbers => ({ type: "float32", shape, data });
export const normal = (random: Random, ...shape: number[]): Numbers =>
  floats(
    shape,
    Array.from({ length: shape.reduce((n, d) => n * d, 1) }, () => Math.fround(random.normal())),
  );
export const load = (init: ModelInit, options?: LoadOnnxOptions): OnnxModule => loadOnnx(modelBytes(init), options);
export const one = (nodes: GraphInit["nodes"], more: Partial<ModelInit> = {}): ModelInit => ({
  nodes,
  inputs: { x: { shape: ["n", 3] } },
  ...more,
});
export const x23 = (): Tensor => tensor([1, 2, 3, -4, -5, -6], { shape: [2, 3] });
