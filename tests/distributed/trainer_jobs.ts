import type { Tensor } from "../../src/autograd/index.js";
import type { Communicator } from "../../src/base/communicator.js";
import { globalRandom, manualSeed } from "../../src/base/random.js";
import { DataLoader } from "../../src/data/browser.js";
import {
  ActNorm,
  BatchNorm1d,
  BatchRenorm,
  Dropout,
  EvoNormB0,
  Linear,
  Module,
  PowerNorm,
  ReLU,
  Sequential,
  SwitchableNorm,
  SyncBatchNorm,
  VirtualBatchNorm,
} from "../../src/nn/index.js";
import { AdamW } from "../../src/optim/index.js";
import { Trainer, type TrainerOptions } from "../../src/train/index.js";
import { data, loss } from "../training/small_run.js";

export interface TrainInput {
  readonly norm?: keyof typeof norms;
  readonly dropout?: boolean;
  readonly batchSize?: number;
  readonly samples?: number;
  /** Default true. */
  readonly sharded?: boolean;
  readonly testSharded?: boolean;
  readonly everySteps?: number;
  readonly path?: string;
  readonly resume?: boolean;
  /** stop() is called on this rank after this step. */
  readonly stop?: { readonly rank: number; readonly step: number };
  /** NaN is written into a weight of this rank after this step. */
  readonly spoil?: { readonly rank: number; readonly step: number };
  readonly options?: Partial<TrainerOptions>;
}

export interface Trained {
  readonly losses: number[];
  readonly lossHash: string | null;
  readonly reason: string;
  readonly testLoss: number | null;
  readonly testAccuracy: number | null;
  /** All parameters, then all buffers. */
  readonly state: number[];
  /** The buffers on this rank after the last step. */
  readonly buffers: readonly number[];
  /** The generator as training ended. */
  readonly random: readonly number[];
  /** The trainer's own. */
  readonly warnings: string[];
}

/** [N, channels * 2] as [N, channels, 2] or back: a sample that has two values for each channel. */
class InPairs extends Module {
  constructor(private readonly channels: number | null) {
    super();
  }

  override forward(x: Tensor): Tensor {
    const [samples = 0, features = 0] = x.shape;
    return x.reshape(this.channels === null ? [samples, 2 * features] : [samples, this.channels, 2]);
  }
}

const inPairs = (norm: Module) => [new InPairs(4), norm, new InPairs(null)];

const norms = {
  sync: (communicator: Communicator) => [new SyncBatchNorm(8, { communicator })],
  // Other layers with statistics of all ranks.
  sharedActNorm: (communicator: Communicator) => inPairs(new ActNorm(4, { communicator })),
  sharedVirtualBatchNorm: (communicator: Communicator) => inPairs(new VirtualBatchNorm(4, { communicator })),
  sharedEvoNormB0: (communicator: Communicator) => inPairs(new EvoNormB0(4, { communicator })),
  sharedPowerNorm: (communicator: Communicator) => inPairs(new PowerNorm(4, { communicator, warmupIters: 5 })),
  sharedSwitchableNorm: (communicator: Communicator) => inPairs(new SwitchableNorm(4, { communicator })),
  own: () => inPairs(new BatchNorm1d(4)),
  // Trains by its running statistics, those of each rank's own part.
  ownRenorm: () => inPairs(new BatchRenorm(4, { rMax: 2, dMax: 1, momentum: 0.3 })),
  /** Sets its parameters by the rank's own part of the first batch. */
  ownActNorm: () => inPairs(new ActNorm(4)),
};

function network(norm: TrainInput["norm"], communicator: Communicator, dropout: boolean): Module {
  return new Sequential(
    // Without a bias, whose gradient in front of batch normalization is rounding alone, which Adam makes steps of.
    new Linear(3, 8, { bias: false }),
    ...(norm ? norms[norm](communicator) : []),
    new ReLU(),
    ...(dropout ? [new Dropout(0.25)] : []),
    new Linear(8, 2),
  );
}

export async function train(communicator: Communicator, input: TrainInput): Promise<Trained> {
  const { norm, dropout = false, batchSize = 8, samples = 83, path, resume, stop, spoil } = input;
  const { sharded = true, testSharded = sharded } = input;
  const warnings: string[] = [];
  console.warn = (text: string) => void (text.startsWith("Trainer") && warnings.push(text));
  // Ranks that begin differently: rank 0's model counts.
  manualSeed(1 + communicator.rank);
  const model = network(norm, communicator, dropout);
  const shard = (is: boolean) => (is ? { shard: communicator } : {});
  const losses: number[] = [];
  let buffers: number[] = [];
  const trainer = new Trainer({
    model,
    optimizer: new AdamW(model.parameters(), { lr: 0.01 }),
    loss,
    train: new DataLoader(data(samples), { batchSize, shuffle: true, seed: 3, ...shard(sharded) }),
    test: new DataLoader(data(41, 6), { batchSize: 16, ...shard(testSharded) }),
    epochs: 2,
    clipNorm: 0.5,
    seed: 4,
    communicator,
    signals: "ignore",
    ...(path ? { checkpoint: { path, everySteps: input.everySteps ?? 1000 } } : {}),
    callbacks: [
      {
        onStep({ step, loss }) {
          losses.push(loss);
          buffers = model.buffers().flatMap((t) => [...t.dataSync()]);
          if (stop?.rank === communicator.rank && stop.step === step) trainer.stop();
          if (spoil?.rank === communicator.rank && spoil.step === step) {
            model.parameters()[0]!.assign(new Float32Array(24).fill(Number.NaN));
          }
        },
      },
    ],
    ...input.options,
  });
  if (resume) trainer.resume("auto");
  const { lossHash, reason, testLoss, testAccuracy } = await trainer.fit();
  const state = Object.values(model.stateDict()).flatMap((t) => [...t.dataSync()]);
  const random = globalRandom.state.words;
  return { losses, lossHash, reason, testLoss, testAccuracy, state, buffers, random, warnings };
}

export const trainerJobs = {
  train,
  /** Ranks that were told different numbers of epochs. */
  trainUnlike: (communicator: Communicator) => train(communicator, { options: { epochs: 2 + communicator.rank } }),
};
