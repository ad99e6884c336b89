import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import { dll, mygrad, npdl } from "../../src/compat/index.js";
import { relativeError } from "../conformance/harness.js";

/** What the systems' own code printed, in float64. */
const file = new URL("./compat_seeds.json", import.meta.url);
interface Values {
  readonly shape: number[];
  readonly data: number[];
}
type Step = Record<"input" | "grad_output" | "output" | "grad_input", Values> & Record<string, Values | undefined>;
type Case = Step & {
  readonly id: string;
  readonly kwargs: Record<string, number>;
  readonly nparams: number;
  readonly steps: Step[];
  readonly eval: Step;
  readonly gamma: Values | null;
  readonly beta: Values | null;
  readonly eps: number;
};
const cases = JSON.parse(readFileSync(file, "utf8")) as Case[];

type DType = "float32" | "float64";
const of = ({ data, shape }: Values, dtype: DType) => tensor(data, { shape, dtype });

/** The largest error of a case, relative to the largest value of each result. */
class Errors {
  largest = 0;

  take(got: Tensor | null | undefined, want: Values | null | undefined): void {
    if (!want) return;
    expect(got!.shape).toEqual(want.shape);
    this.largest = Math.max(this.largest, relativeError(got!.dataSync(), want.data));
  }
}

function followDll({ id, kwargs, gamma, beta, nparams, steps, eval: last }: Case, dtype: DType): number {
  const errors = new Errors();
  const layer = id.includes("BatchNorm")
    ? new dll.BatchNorm(kwargs)
    : new dll.GroupNorm(kwargs.num_groups === undefined ? {} : { numGroups: kwargs.num_groups });
  layer.initialiseLayer({ inputShape: steps[0]!.input.shape.slice(1), dtype });
  expect(layer.nparams).toBe(nparams);
  layer.gamma.assign(gamma!.data);
  layer.beta.assign(beta!.data);
  for (const step of steps) {
    layer.zeroGrad();
    errors.take(layer.forward(of(step.input, dtype), { training: true }), step.output);
    errors.take(layer.backward(of(step.grad_output, dtype)), step.grad_input);
    errors.take(layer.gamma.grad, step.grad_gamma);
    errors.take(layer.beta.grad, step.grad_beta);
    if (!(layer instanceof dll.BatchNorm)) continue;
    errors.take(layer.runningMean, step.running_mean);
    errors.take(layer.runningVar, step.running_var);
  }
  errors.take(layer.forward(of(last.input, dtype), { training: false }), last.output);
  return errors.largest;
}

function followNpdl(c: Case, dtype: DType): number {
  const errors = new Errors();
  const layer = new npdl.BatchNormal({ asWritten: true });
  layer.connectTo({ outShape: [null, ...c.input.shape.slice(1)] });
  layer.gamma.assign(c.gamma!.data);
  layer.beta.assign(c.beta!.data);
  errors.take(layer.forward(of(c.input, dtype)), c.output);
  errors.take(layer.backward(of(c.grad_output, dtype)), c.grad_input);
  errors.take(layer.dgamma, c.dgamma);
  errors.take(layer.dbeta, c.dbeta);
  return errors.largest;
}

function followMygrad(c: Case, dtype: DType): number {
  const errors = new Errors();
  const leaf = (v: Values | null) => {
    const t = v ? of(v, dtype) : null;
    if (t) t.requiresGrad = true;
    return t;
  };
  const [x, gamma, beta] = [leaf(c.input)!, leaf(c.gamma), leaf(c.beta)];
  const y = mygrad.batchnorm(x, { gamma, beta, eps: c.eps });
  errors.take(y, c.output);
  y.backward(of(c.grad_output, dtype));
  errors.take(x.grad, c.grad_input);
  errors.take(gamma?.grad, c.grad_gamma);
  errors.take(beta?.grad, c.grad_beta);
  return errors.largest;
}

for (const c of cases) {
  const follow = c.id.startsWith("DLL") ? followDll : c.id.startsWith("npdl") ? followNpdl : followMygrad;
  // Measured: at most 1e-15 and 3e-7.
  test(`${c.id}, float64`, () => expect(follow(c, "float64")).toBeLessThanOrEqual(1e-14));
  test(`${c.id}, float32`, () => expect(follow(c, "float32")).toBeLessThanOrEqual(2e-6));
}
