import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Tensor, tensor } from "../../src/autograd/index.js";
import {
  Adam,
  AdamW,
  clipGradNorm,
  type Optimizer,
  ReduceLROnPlateau,
  RMSprop,
  SGD,
  StepLR,
} from "../../src/optim/index.js";

interface Golden {
  start: number[][];
  grads: number[][][];
  cases: { name: string; options: Record<string, unknown>; steps: number[][][] }[];
  plateau: { metrics: number[]; rates: number[] };
  stepLR: number[];
  clip: { maxNorm: number; norm: number; grads: number[][] };
}

const golden = JSON.parse(readFileSync(new URL("./optim_torch.json", import.meta.url), "utf8")) as Golden;
const rules = { SGD, Adam, AdamW, RMSprop } as unknown as Record<
  string,
  new (
    p: Tensor[],
    o: object,
  ) => Optimizer<{ lr: number }>
>;

const parameters = (dtype: "float64" | "float32"): Tensor[] =>
  golden.start.map((values) => tensor(values, { dtype, requiresGrad: true }));

function setGrads(params: Tensor[], values: number[][], dtype: "float64" | "float32"): void {
  for (const [i, p] of params.entries()) p.grad = tensor(values[i]!, { dtype });
}

function worst(params: Tensor[], want: number[][]): number {
  return Math.max(...params.flatMap((p, i) => [...p.dataSync()].map((v, j) => Math.abs(v - want[i]![j]!))));
}

describe("optimizers against torch.optim", () => {
  for (const c of golden.cases) {
    for (const [dtype, tolerance] of [
      ["float64", 1e-14],
      ["float32", 5e-7],
    ] as const) {
      test(`${c.name} ${JSON.stringify(c.options)} ${dtype}`, () => {
        const params = parameters(dtype);
        const optimizer = new rules[c.name]!(params, c.options);
        for (const [step, want] of c.steps.entries()) {
          setGrads(params, golden.grads[step]!, dtype);
          optimizer.step();
          expect(worst(params, want)).toBeLessThanOrEqual(tolerance);
        }
      });
    }
    test(`${c.name} ${JSON.stringify(c.options)} continues from a saved state with the same bits`, () => {
      const params = parameters("float32");
      const first = new rules[c.name]!(params, c.options);
      const run = (o: Optimizer<{ lr: number }>, p: Tensor[], from: number, to: number) => {
        for (let step = from; step < to; step++) {
          setGrads(p, golden.grads[step]!, "float32");
          o.step();
        }
      };
      run(first, params, 0, 3);
      const other = params.map((p) => tensor(p.dataSync(), { requiresGrad: true }));
      const second = new rules[c.name]!(other, { ...c.options, lr: 1 });
      second.loadStateDict(first.stateDict());
      run(first, params, 3, 6);
      run(second, other, 3, 6);
      expect(other.map((p) => p.toArray())).toEqual(params.map((p) => p.toArray()));
    });
  }
});

test("schedules against torch", () => {
  const p = [tensor([1], { requiresGrad: true })];
  const plateau = new SGD(p, { lr: 1 });
  const schedule = new ReduceLROnPlateau(plateau, { factor: 0.5, patience: 2, cooldown: 1, minLr: 0.1 });
  const rates = golden.plateau.metrics.map((metric) => {
    schedule.step(metric);
    return plateau.paramGroups[0]!.lr;
  });
  expect(rates).toEqual(golden.plateau.rates);
  const stepped = new SGD(p, { lr: 1 });
  const stepLR = new StepLR(stepped, 3, { gamma: 0.5 });
  expect(
    golden.stepLR.map(() => {
      stepLR.step();
      return stepped.paramGroups[0]!.lr;
    }),
  ).toEqual(golden.stepLR);
});

test("clipGradNorm against torch", () => {
  const params = parameters("float64");
  setGrads(params, golden.grads[0]!, "float64");
  expect(clipGradNorm(params, golden.clip.maxNorm)).toBeCloseTo(golden.clip.norm, 12);
  expect(
    worst(
      params.map((p) => p.grad!),
      golden.clip.grads,
    ),
  ).toBeLessThanOrEqual(1e-14);
});
