import type { Random } from "../../../src/base/random.js";
import { type nn, noGrad, scope, Tensor } from "../../../src/index.js";
import type { LayerCase } from "./layers.js";

/** The layer with random parameters, and with running statistics that a few batches have moved. */
export function prepared({ make, inputs }: Pick<LayerCase, "make" | "inputs">, r: Random): nn.Module {
  const model = make();
  scope(() => {
    for (const p of model.parameters()) {
      p.assign(Float64Array.from(p.dataSync(), (v) => v * (1 + 0.3 * r.normal()) + 0.2 * r.normal()));
    }
    for (let i = 0; i < 3; i++) noGrad(() => model.forward(...inputs(r)));
  });
  return model;
}

/** The tensors that a forward returned, under the names that exportOnnx gives them. */
export function outputsOf(result: unknown): [string, Tensor][] {
  if (result instanceof Tensor) return [["output", result]];
  return Object.entries(result as object).map(([key, t]) => [`output_${key}`, t as Tensor]);
}

/** The tensors among a forward's arguments, under the names that exportOnnx gives them. */
export function inputsOf(args: readonly unknown[]): Record<string, Tensor> {
  const plain = args.filter((a) => a instanceof Tensor);
  const options = args.flatMap((a) => (a instanceof Tensor ? [] : Object.entries(a as object)));
  const named = plain.map((t, i): [string, Tensor] => [plain.length === 1 ? "input" : `input_${i}`, t]);
  return Object.fromEntries([...named, ...options.filter(([, t]) => t instanceof Tensor)]);
}

/** A seed that is a name's own. */
export const seedOf = (name: string): number => [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 7);
