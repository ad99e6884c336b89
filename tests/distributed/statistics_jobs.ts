import { type Tensor, tensor } from "../../src/autograd/index.js";
import { type Communicator, loopback, type Numbers } from "../../src/base/communicator.js";
import type { DType } from "../../src/base/dtype.js";
import { Random } from "../../src/base/random.js";
import { ActNorm, EvoNormB0, type Module, PowerNorm, SwitchableNorm, VirtualBatchNorm } from "../../src/nn/index.js";
import { noting } from "./sync_jobs.js";

// Layers that are no BatchNorm and share statistics over ranks all the same.

export const statisticsKinds = { ActNorm, VirtualBatchNorm, EvoNormB0, PowerNorm, SwitchableNorm } as const;
export type StatisticsKind = keyof typeof statisticsKinds;

export interface StatisticsJob {
  readonly kind: StatisticsKind;
  readonly dtype: DType;
  readonly options: object;
  readonly channels: number;
  /** What this rank gets in each step. */
  readonly steps: readonly { readonly shape: readonly number[]; readonly x: Numbers; readonly dy: Numbers }[];
}

export interface StatisticsResult {
  /** Of each step: y, dx, and the parameters' gradients by name. */
  readonly steps: { readonly y: number[]; readonly dx: number[]; readonly gradients: Record<string, number[]> }[];
  /** Parameters and buffers in the end. */
  readonly state: Record<string, number[]>;
  readonly skipped: number;
  readonly evaluated: number[];
  /** Calls of the communicator: in each step, forward then backward; and of the evaluation. */
  readonly calls: readonly string[];
}

const list = (t: Tensor | null | undefined): number[] => [...t!.dataSync()];
const byName = (of: Iterable<readonly [string, Tensor]>) => Object.fromEntries([...of].map(([n, t]) => [n, list(t)]));

function make(communicator: Communicator, { kind, dtype, options, channels }: Omit<StatisticsJob, "steps">): Module {
  const layer: Module = new statisticsKinds[kind](channels, { ...options, dtype, communicator });
  const random = new Random(3);
  // Numbers that float32 has too.
  for (const p of layer.parameters()) {
    p.assign(Float64Array.from({ length: p.size }, () => Math.fround(1 + 0.5 * random.normal())));
  }
  return layer;
}

/** Training steps of one layer, then an evaluation of the last input. */
export function statisticsSteps(communicator: Communicator, job: StatisticsJob): StatisticsResult {
  const calls: string[] = [];
  const layer = make(noting(communicator, calls), job);
  const { dtype } = job;
  const results = job.steps.map(({ shape, x, dy }) => {
    layer.zeroGrad();
    calls.push("forward");
    const y = layer.forward(tensor(x, { shape, dtype }));
    calls.push("backward");
    const dx = layer.backward(tensor(dy, { shape, dtype }));
    const gradients = Object.fromEntries(layer.namedParameters().map(([n, p]) => [n, list(p.grad)]));
    return { y: list(y), dx: list(dx), gradients };
  });
  calls.push("evaluation");
  layer.eval();
  const { shape, x } = job.steps.at(-1)!;
  // Only one rank evaluates: that needs nobody else.
  const evaluated = communicator.rank === 0 ? list(layer.forward(tensor(x, { shape, dtype }))) : [];
  const { skippedUpdates: skipped = 0 } = layer as { skippedUpdates?: number };
  return { steps: results, state: byName(Object.entries(layer.stateDict())), skipped, evaluated, calls };
}

/** What one process comes to. */
export const statisticsAlone = (job: StatisticsJob): StatisticsResult => statisticsSteps(loopback, job);

export const statisticsJobs = {
  setReference(communicator: Communicator, { shape, x }: Pick<StatisticsJob["steps"][number], "shape" | "x">) {
    const layer = new VirtualBatchNorm(shape[1]!, { dtype: "float64", communicator });
    layer.setReference(tensor(x, { shape }));
    return byName(Object.entries(layer.stateDict()));
  },
  statisticsSteps,
  /** Several layers one after the other: threads take longer to start than to compute this. */
  statisticsLayers: (communicator: Communicator, jobs: readonly StatisticsJob[]) =>
    jobs.map((job) => statisticsSteps(communicator, job)),
  /** A forward that no rank can do: too few values on rank 0, none on the others. */
  tooFewValues: (communicator: Communicator, { kind, options, shape }: StatisticsJobShape) => {
    const here = communicator.rank === 0 ? shape : [0, ...shape.slice(1)];
    const x = tensor(new Float32Array(here.reduce((a, b) => a * b, 1)), { shape: here });
    make(communicator, { kind, dtype: "float32", options, channels: shape[1]! }).forward(x);
  },
  /** Layers of another kind, or for more channels, on rank 1. */
  unlikeLayers(communicator: Communicator, kinds: readonly (readonly [StatisticsKind, number])[]) {
    const [kind, channels] = kinds[communicator.rank]!;
    const layer = make(communicator, { kind, dtype: "float32", options: {}, channels });
    layer.forward(tensor(new Float32Array(4 * channels), { shape: [2, channels, 2] }));
  },
};

export interface StatisticsJobShape {
  readonly kind: StatisticsKind;
  readonly options: object;
  readonly shape: readonly number[];
}
