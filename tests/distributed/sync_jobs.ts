import { type Tensor, tensor } from "../../src/autograd/index.js";
import { type Communicator, loopback, type Numbers } from "../../src/base/communicator.js";
import type { DType } from "../../src/base/dtype.js";
import { manualSeed, Random } from "../../src/base/random.js";
import { broadcastState, sumGradients } from "../../src/distributed/index.js";
import { scope } from "../../src/memory/scope.js";
import {
  BatchRenorm,
  type BatchRenormOptions,
  Conv2d,
  Flatten,
  InPlaceActivatedBatchNorm,
  type InPlaceActivatedBatchNormOptions,
  Linear,
  MaskedBatchNorm,
  type MaskedBatchNormOptions,
  ReLU,
  Sequential,
  SyncBatchNorm,
  type SyncBatchNormOptions,
} from "../../src/nn/index.js";
import { SGD } from "../../src/optim/index.js";

export interface LayerJob {
  /** Default SyncBatchNorm. */
  readonly kind?: keyof typeof layerKinds;
  readonly dtype: DType;
  readonly options: SyncBatchNormOptions &
    BatchRenormOptions &
    MaskedBatchNormOptions &
    InPlaceActivatedBatchNormOptions;
  readonly features: number | readonly number[];
  /** Drawn at random unless given. */
  readonly weight?: readonly number[];
  readonly bias?: readonly number[];
  /** What this rank gets in each step; the mask has x's positions. */
  readonly steps: readonly {
    readonly shape: readonly number[];
    readonly x: Numbers;
    readonly dy: Numbers;
    readonly mask?: { readonly shape: readonly number[]; readonly valid: Int32Array } | undefined;
  }[];
}

export const layerKinds = { SyncBatchNorm, BatchRenorm, MaskedBatchNorm, InPlaceActivatedBatchNorm } as const;

export interface LayerResult {
  readonly steps: { readonly y: number[]; readonly dx: number[]; readonly weight: number[]; readonly bias: number[] }[];
  readonly runningMean: number[];
  readonly runningVar: number[];
  readonly tracked: number;
  readonly skipped: number;
  readonly evaluated: number[];
  /** Calls of the communicator: in each step, forward then backward; and of the evaluation. */
  readonly calls: readonly string[];
}

const list = (t: Tensor | null | undefined): number[] => (t ? [...t.dataSync()] : []);

/** The same communicator, which notes what is called. */
export function noting(to: Communicator, calls: string[]): Communicator {
  return {
    ...loopback,
    rank: to.rank,
    size: to.size,
    allGather(data, options) {
      calls.push(`gather ${data.constructor.name}${options?.equalLengths ? ` ${data.length}` : ""}`);
      return to.allGather(data, options);
    },
    allReduce(data, how) {
      calls.push(`reduce ${data.constructor.name} ${data.length}`);
      to.allReduce(data, how);
    },
  };
}

/** Training steps of one layer, then an evaluation of the last input. */
export function layerSteps(communicator: Communicator, job: LayerJob): LayerResult {
  const { kind = "SyncBatchNorm", dtype, options, features, steps } = job;
  const calls: string[] = [];
  const layer = new layerKinds[kind](features as number, {
    ...options,
    dtype,
    communicator: noting(communicator, calls),
  });
  const random = new Random(3);
  for (const p of layer.parameters()) p.assign(Float64Array.from({ length: p.size }, () => 1 + 0.5 * random.normal()));
  if (job.weight) layer.weight!.assign(job.weight);
  if (job.bias) layer.bias!.assign(job.bias);
  const forward = ({ shape, x, mask }: LayerJob["steps"][number]) => {
    const input = tensor(x, { shape, dtype });
    return mask ? layer.forward(input, tensor(mask.valid, { shape: mask.shape })) : layer.forward(input);
  };
  const results = steps.map((step) => {
    layer.zeroGrad();
    calls.push("forward");
    const y = forward(step);
    calls.push("backward");
    const dx = layer.backward(tensor(step.dy, { shape: step.shape, dtype }));
    return { y: list(y), dx: list(dx), weight: list(layer.weight?.grad), bias: list(layer.bias?.grad) };
  });
  calls.push("evaluation");
  layer.eval();
  // Only one rank evaluates: that needs nobody else.
  const evaluated = communicator.rank === 0 ? list(forward(steps.at(-1)!)) : [];
  return {
    steps: results,
    runningMean: list(layer.runningMean),
    runningVar: list(layer.runningVar),
    tracked: layer.numBatchesTracked!.item(),
    skipped: layer.skippedUpdates,
    evaluated,
    calls,
  };
}

/** Six steps of a small net on random images: this rank's shard of each batch. Returns the parameters and buffers. */
export function smallNet(communicator: Communicator, shards: readonly (readonly [number, number])[]): number[][] {
  const [from, to] = shards[communicator.rank]!;
  const total = shards.at(-1)![1];
  const dtype = "float64";
  manualSeed(17 + communicator.rank);
  const net = new Sequential(
    new Conv2d(2, 3, 3, { dtype, bias: false }),
    new SyncBatchNorm(3, { dtype, communicator }),
    new ReLU(),
    new Conv2d(3, 4, 2, { dtype, bias: false }),
    new SyncBatchNorm(4, { dtype, communicator }),
    new ReLU(),
    new Flatten(),
    new Linear(4 * 2 * 2, 2, { dtype }),
  );
  broadcastState(communicator, net);
  const optimizer = new SGD(net.parameters(), { lr: 0.1, momentum: 0.9 });
  const random = new Random(23);
  for (let step = 0; step < 6; step++) {
    scope(() => {
      const numbers = Float64Array.from({ length: total * 50 }, () => random.normal());
      const target = Float64Array.from({ length: total * 2 }, () => random.normal());
      const n = to - from;
      const x = tensor(numbers.subarray(from * 50, to * 50), { shape: [n, 2, 5, 5], dtype });
      const t = tensor(target.subarray(from * 2, to * 2), { shape: [n, 2], dtype });
      // A sum over this rank's samples over the number of all samples: gradients then add up over ranks.
      net.forward(x).sub(t).square().sum().div(total).backward();
      sumGradients(communicator, net.parameters());
      optimizer.step();
      optimizer.zeroGrad();
    });
  }
  return Object.values(net.stateDict()).map(list);
}

export const syncJobs = {
  layerSteps,
  /** Several layers one after the other: threads take longer to start than to compute this. */
  layers: (communicator: Communicator, jobs: readonly LayerJob[]) => jobs.map((job) => layerSteps(communicator, job)),
  smallNet,
  /** A forward that no rank can do. */
  forward(communicator: Communicator, { shape, channels }: { shape: readonly number[]; channels: number }) {
    new SyncBatchNorm(channels, { communicator }).forward(
      tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), { shape }),
    );
  },
};
