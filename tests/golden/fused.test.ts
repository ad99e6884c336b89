import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { grad, type Tensor, tensor } from "../../src/autograd/index.js";
import { nn } from "../../src/index.js";
import * as F from "../../src/nn/functional.js";
import { relativeError } from "../conformance/harness.js";

interface Case {
  readonly kind: string;
  readonly shapes: number[][];
  readonly inputs: number[][];
  readonly outputs: number[][];
  readonly cotangents: number[][];
  readonly gradients: number[][];
  readonly activation?: "relu" | "silu" | "gelu" | "leakyRelu";
  readonly mean?: number[];
  readonly variance?: number[];
  readonly slope?: number;
}

const { cases } = JSON.parse(readFileSync(new URL("fused_torch.json", import.meta.url), "utf8")) as { cases: Case[] };

/** Outputs, and the tensors that gradients are asked of. */
function run(c: Case, dtype: "float32" | "float64"): { outputs: Tensor[]; inputs: Tensor[] } {
  const make = (values: number[], shape: number[]) => tensor(values, { dtype }).reshape(shape);
  const inputs = c.inputs.map((v, i) => make(v, c.shapes[i]!).detach());
  for (const t of inputs) t.requiresGrad = true;
  const [x, second, third, fourth] = inputs as [Tensor, Tensor, Tensor, Tensor];
  const o = { weight: second, bias: third ?? null, activation: c.activation ?? null };
  switch (c.kind) {
    case "batch":
      return { inputs, outputs: [F.batchNorm(x, { ...o, training: true })] };
    case "evaluation": {
      const running = { runningMean: make(c.mean!, [4]), runningVar: make(c.variance!, [4]) };
      return { inputs, outputs: [F.batchNorm(x, { ...o, ...running })] };
    }
    case "group":
      return { inputs, outputs: [F.groupNorm(x, 2, o)] };
    case "instance":
      return { inputs, outputs: [F.instanceNorm(x, o)] };
    case "layer":
      return { inputs, outputs: [F.layerNorm(x, 7, o)] };
    case "rms":
      return { inputs, outputs: [F.rmsNorm(x, 7, { weight: second, eps: 1e-5, activation: c.activation! })] };
    case "addLayer": {
      const { y, sum } = F.addLayerNorm(x, second, 7, { weight: third, bias: fourth });
      return { inputs, outputs: [y, sum] };
    }
    case "addRms": {
      const { y, sum } = F.addRmsNorm(x, second, 7, { weight: third, weightOffset: 1, eps: 1e-6 });
      return { inputs, outputs: [y, sum] };
    }
    default: {
      const how = c.slope === 1 ? { activation: "identity" as const } : { negativeSlope: c.slope! };
      const layer = new nn.InPlaceActivatedBatchNorm(4, { ...how, dtype });
      layer.weight!.assign(second);
      layer.bias!.assign(third);
      return { inputs: [x, layer.weight!, layer.bias!], outputs: [layer.forward(x.mul(1))] };
    }
  }
}

for (const [i, c] of cases.entries()) {
  for (const dtype of ["float64", "float32"] as const) {
    test(`case ${i}: ${c.kind} ${c.activation ?? c.slope ?? ""}, ${dtype}`, () => {
      const { outputs, inputs } = run(c, dtype);
      const loss = outputs
        .map((y, j) => y.mul(tensor(c.cotangents[j]!, { dtype }).reshape(y.shape)).sum())
        .reduce((a, b) => a.add(b));
      const limit = dtype === "float64" ? 1e-12 : 2e-6;
      for (const [j, y] of outputs.entries())
        expect(relativeError(y.dataSync(), c.outputs[j]!)).toBeLessThanOrEqual(limit);
      for (const [j, g] of grad(loss, inputs).entries()) {
        expect(relativeError(g.dataSync(), c.gradients[j]!), `gradient ${j}`).toBeLessThanOrEqual(limit);
      }
    });
  }
}
