import { manualSeed } from "../base/random.js";
import { DataLoader, type ImageSplits } from "../data/index.js";
import type { DeviceName } from "../memory/device.js";
import { CrossEntropyLoss } from "../nn/index.js";
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
};

export const defaults = { data: "digits", norm: "batch", epochs: 12, batchSize: 32, lr: 0.005, seed: 0 } as const;

const WEIGHT_DECAY = 0.01;
/**
 * How often to look: about this many times in a run, but no oftener than every few steps. Evaluations on the way tell
 * "steps to 95 %" finer than by epochs; snapshots of the normalization layers make curves.
 */
const LOOKS = 60;
const FEWEST_STEPS_BETWEEN = 10;

/** Everything a Trainer takes for these settings, made from the seed alone. */
export function experiment(settings: Settings, splits: ImageSplits): TrainerOptions & { readonly settings: Settings } {
  const { epochs, batchSize, lr, seed, norm, device } = settings;
  manualSeed(seed);
  const model = convNet(splits, norm).to(device);
  const optimizer = new AdamW(weightDecayGroups(model, WEIGHT_DECAY), { lr });
  // A last batch of one sample is nothing to take a variance of.
  const train = new DataLoader(splits.train, { batchSize, shuffle: true, dropLast: true, seed });
  const test = new DataLoader(splits.test, { batchSize: 120 });
  const total = Math.max(1, epochs * train.length);
  const every = Math.max(FEWEST_STEPS_BETWEEN, Math.ceil(total / LOOKS));
  return {
    ...{ model, optimizer, train, test, epochs, seed, settings },
    name: norm,
    loss: new CrossEntropyLoss(),
    scheduler: new CosineWarmup(optimizer, { warmup: Math.min(total, 20), total }),
    schedulerEvery: "step",
    evaluateEverySteps: every,
    normStatisticsEverySteps: every,
  };
}
