import { type Tensor, tensor } from "../../src/autograd/index.js";
import type { Communicator } from "../../src/base/communicator.js";
import type { DType } from "../../src/base/dtype.js";
import { manualSeed, Random } from "../../src/base/random.js";
import { broadcastState, sumGradients } from "../../src/distributed/index.js";
import { scope } from "../../src/memory/scope.js";
import {
  ActNorm,
  type AffineGradients,
  BatchRenorm,
  Conv2d,
  EvoNormB0,
  Flatten,
  InPlaceActivatedBatchNorm,
  Linear,
  type Mask,
  MaskedBatchNorm,
  Module,
  PowerNorm,
  reducedGradients,
  SwitchableNorm,
  SyncBatchNorm,
  VirtualBatchNorm,
} from "../../src/nn/index.js";
import { crossEntropy } from "../../src/nn/loss/cross_entropy.js";
import { Adam, SGD } from "../../src/optim/index.js";

// A small CNN that learns the same whether one process sees a batch or several ranks see its parts.

export interface Training {
  readonly norm: keyof typeof norms;
  readonly optimizer: keyof typeof optimizers;
  readonly dtype: DType;
  /** What each rank gets of every batch, as shares of it that add up to 1. */
  readonly shares: readonly number[];
  readonly steps: number;
  readonly affineGradients?: AffineGradients;
}

type Common = { dtype: DType; communicator: Communicator; affineGradients: AffineGradients };

const norms = {
  SyncBatchNorm: (n: number, o: Common) => new SyncBatchNorm(n, o),
  BatchRenorm: (n: number, o: Common) => new BatchRenorm(n, { ...o, rMax: 1.5, dMax: 0.5, momentum: 0.1 }),
  InPlaceActivatedBatchNorm: (n: number, o: Common) => new InPlaceActivatedBatchNorm(n, { ...o, negativeSlope: 0.1 }),
  ActNorm: (n: number, { dtype, communicator }: Common) => new ActNorm(n, { dtype, communicator }),
  VirtualBatchNorm: (n: number, { dtype, communicator }: Common) => new VirtualBatchNorm(n, { dtype, communicator }),
  SwitchableNorm: (n: number, { dtype, communicator }: Common) => new SwitchableNorm(n, { dtype, communicator }),
  EvoNormB0: (n: number, { dtype, communicator }: Common) => new EvoNormB0(n, { dtype, communicator }),
  PowerNorm: (n: number, { dtype, communicator }: Common) => new PowerNorm(n, { dtype, communicator, warmupIters: 5 }),
  "MaskedBatchNorm zero": (n: number, o: Common) => new MaskedBatchNorm(n, { ...o, padded: "zero" }),
  "MaskedBatchNorm keep": (n: number, o: Common) => new MaskedBatchNorm(n, { ...o, padded: "keep" }),
  "MaskedBatchNorm normalize": (n: number, o: Common) => new MaskedBatchNorm(n, { ...o, padded: "normalize" }),
} as const;

const optimizers = {
  "momentum SGD": (net: Net) => new SGD(net.parameters(), { lr: 0.05, momentum: 0.9 }),
  Adam: (net: Net) => new Adam(net.parameters(), { lr: 0.01 }),
} as const;

const SIDE = 4;
const CLASSES = 4;
/** Three batches of 16 and one of 7 to an epoch. */
const SAMPLES = 55;
const BATCH = 16;

/** Three channels, so that gradients of few weights are sent beside the sums, and ten, so that they follow from those. */
class Net extends Module {
  readonly conv1: Conv2d;
  readonly norm1: ReturnType<(typeof norms)[keyof typeof norms]>;
  readonly conv2: Conv2d;
  readonly norm2: ReturnType<(typeof norms)[keyof typeof norms]>;
  readonly flatten = new Flatten();
  readonly head: Linear;

  constructor(norm: Training["norm"], common: Common) {
    super();
    const { dtype } = common;
    this.conv1 = new Conv2d(1, 3, 3, { padding: 1, bias: false, dtype });
    this.norm1 = norms[norm](3, common);
    this.conv2 = new Conv2d(3, 10, 3, { padding: 1, bias: false, dtype });
    this.norm2 = norms[norm](10, common);
    this.head = new Linear(10 * SIDE * SIDE, CLASSES, { dtype });
  }

  override forward(x: Tensor, mask: Mask): Tensor {
    const norm = (layer: Module, t: Tensor) =>
      (layer instanceof MaskedBatchNorm ? layer.forward(t, mask) : layer.forward(t)).maximum(0);
    const features = norm(this.norm2, this.conv2.forward(norm(this.norm1, this.conv1.forward(x))));
    return this.head.forward(this.flatten.forward(features));
  }
}

/** Images of classes that lie 0.5 deviations apart, classes, and for each image a mask: some rows, or none of them. */
function makeData(random: Random) {
  const centres = Float64Array.from({ length: CLASSES * SIDE * SIDE }, () => 0.5 * random.normal());
  const y = Int32Array.from({ length: SAMPLES }, () => Math.floor(random.uniform() * CLASSES));
  const each = SIDE * SIDE;
  const x = Float64Array.from({ length: SAMPLES * each }, (_, i) => {
    return centres[y[Math.floor(i / each)]! * each + (i % each)]! + random.normal() + 1;
  });
  const mask = Int32Array.from({ length: SAMPLES * each }, (_, i) => {
    return (i % each) / SIDE < Math.floor(i / each) % (SIDE + 1) ? 1 : 0;
  });
  return { x, y, mask };
}

/** The loss of each step, over the whole batch, and the parameters and buffers in the end. */
export function train(communicator: Communicator, job: Training): { losses: number[]; state: number[][] } {
  const { norm, optimizer: kind, dtype, shares, steps, affineGradients = "own" } = job;
  const { rank } = communicator;
  manualSeed(17 + rank);
  const net = new Net(norm, { dtype, communicator, affineGradients });
  broadcastState(communicator, net);
  const optimizer = optimizers[kind](net);
  const reduced = new Set<Tensor>(reducedGradients(net).flatMap(({ parameters }) => parameters));
  const others = net.parameters().filter((p) => !reduced.has(p));
  const random = new Random(23);
  const data = makeData(random);
  const losses: number[] = [];
  let order: number[] = [];
  while (losses.length < steps) {
    if (order.length === 0) order = [...random.permutation(SAMPLES)];
    const batch = order.splice(0, BATCH);
    const place = (r: number) => Math.round(batch.length * shares.slice(0, r).reduce((a, b) => a + b, 0));
    const own = batch.slice(place(rank), place(rank + 1));
    scope(() => {
      const part = <T extends Float64Array | Int32Array>(of: T, each: number): T => {
        const out = new (of.constructor as new (n: number) => T)(own.length * each);
        for (const [i, sample] of own.entries()) out.set(of.subarray(sample * each, (sample + 1) * each), i * each);
        return out;
      };
      const x = tensor(part(data.x, SIDE * SIDE), { shape: [own.length, 1, SIDE, SIDE], dtype });
      const mask = tensor(part(data.mask, SIDE * SIDE), { shape: [own.length, SIDE, SIDE] });
      const logits = net.forward(x, mask);
      const loss = crossEntropy(logits, tensor(part(data.y, 1)), { reduction: "sum" }).div(batch.length);
      const total = Float64Array.of(loss.item());
      communicator.allReduce(total, "sum");
      losses.push(total[0]!);
      optimizer.zeroGrad();
      loss.backward();
      sumGradients(communicator, others);
      optimizer.step();
    });
  }
  const state = Object.values(net.stateDict()).map((t) => [...t.dataSync()]);
  return { losses, state };
}
