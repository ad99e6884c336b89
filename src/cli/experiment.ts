import type { Communicator } from "../base/communicator.js";
import { manualSeed } from "../base/random.js";
import { DataLoader, type ImageSplits } from "../data/index.js";
import type { DeviceName } from "../memory/device.js";
import { CrossEntropyLoss } from "../nn/index.js";
import { convert } from "../nn/norm/surgery/index.js";
import { AdamW, CosineWarmup, weightDecayGroups } from "../optim/index.js";
import type { TrainerOptions } from "../train/index.js";
import type { DataName } from "./datasets.js";
import { convNet, type NormKind } from "./models.js";

/** What decides a run; a type, not an interface, so that it fits where plain settings are asked for. */
export type Settings = {
  readonly data: DataName;
  readonly dataDir: string | null;
  readonly norm: NormKind;
  readonly epochs: number;
  readonly batchSize: number;
  readonly lr: number;
  readonly seed: number;
  readonly device: DeviceName;
  /** Batches to one step. */
  readonly accumulateSteps: number;
  /** Whether batch normalization takes its statistics over all ranks, where there are several. */
  readonly syncBatchNorm: boolean;
};

/** What settings of early versions lack. */
export const laterSettings = { device: "cpu", accumulateSteps: 1, syncBatchNorm: true } as const;

export const defaults = { data: "digits", norm: "batch", epochs: 12, batchSize: 32, lr: 0.005, seed: 0 } as const;

const WEIGHT_DECAY = 0.01;
/**
 * How often to look: about this many times in a run, but no oftener than every few steps. Evaluations on the way tell
 * "steps to 95 %" finer than by epochs; snapshots of the normalization layers make curves.
 */
const LOOKS = 60;
const FEWEST_STEPS_BETWEEN = 10;

/** Everything a Trainer takes for these settings, made from the seed alone; the batch size is that of all ranks together. */
export function experiment(
  settings: Settings,
  splits: ImageSplits,
  communicator: Communicator,
): TrainerOptions & { readonly settings: Settings } {
  const { epochs, batchSize, lr, seed, norm, device, accumulateSteps, syncBatchNorm } = settings;
  manualSeed(seed);
  const model = convNet(splits, norm).to(device);
  if (norm === "batch" && syncBatchNorm && communicator.size > 1) convert(model, "SyncBatchNorm", { communicator });
  const optimizer = new AdamW(weightDecayGroups(model, WEIGHT_DECAY), { lr });
  // A last batch of one sample is nothing to take a variance of.
  const train = new DataLoader(splits.train, { batchSize, shuffle: true, dropLast: true, seed, shard: communicator });
  const test = new DataLoader(splits.test, { batchSize: 120, shard: communicator });
  const total = Math.max(1, epochs * Math.ceil(train.length / accumulateSteps));
  const every = Math.max(FEWEST_STEPS_BETWEEN, Math.ceil(total / LOOKS));
  return {
    ...{ model, optimizer, train, test, epochs, seed, settings, communicator, accumulateSteps },
    name: norm,
    loss: new CrossEntropyLoss(),
    scheduler: new CosineWarmup(optimizer, { warmup: Math.min(total, 20), total }),
    schedulerEvery: "step",
    evaluateEverySteps: every,
    normStatisticsEverySteps: every,
  };
}
