import type { Communicator } from "../base/communicator.js";
import { DeviceError, OptionError } from "../base/errors.js";
import { globalRandom, Random, type RandomState } from "../base/random.js";
import { broadcastState, broadcastTensors } from "../distributed/copies.js";
import { gatherJson, onAllRanks } from "../distributed/together.js";
import type { ReadLoopOptions } from "./loop_options.js";
import type { BatchSource } from "./parts.js";

// What the ranks of one training check, share and know of each other before steps begin.

/** What must be the same on all ranks, since they call each other at places that depend on it. */
const common = ({
  train,
  test,
  epochs,
  accumulateSteps,
  evaluateEverySteps,
  clipNorm,
  schedulerEvery,
}: ReadLoopOptions) => ({
  "train batches": train.length,
  "train batchSize": train.batchSize,
  "test batches": test?.length ?? 0,
  ...{ epochs, accumulateSteps, evaluateEverySteps, clipNorm, schedulerEvery },
});

/** Throws for options that have no meaning with several ranks. */
export function checkForRanks({ communicator, train, test, model, capture }: ReadLoopOptions): void {
  const { size } = communicator;
  if (size === 1) return;
  if (capture) {
    throw new OptionError({
      rule: "Trainer: capture is for one rank: what is replayed calls no other rank, and gradients and statistics need them",
      got: `${size} ranks`,
      fix: "Leave capture out",
    });
  }
  if (model.device !== "cpu") {
    throw new DeviceError({
      rule: "Trainer: several ranks compute on the CPU, where messages are sent from",
      got: `${size} ranks and a model on ${model.device}`,
      fix: "Use one rank, or device cpu",
    });
  }
  if (!isShardOf(train, communicator)) {
    throw new OptionError({
      rule: `Trainer: with ${size} ranks, train hands each rank its part of every batch`,
      got: describeShard(train),
      fix: "Make it with new DataLoader(dataset, { batchSize, shard: communicator, ... }), where batchSize is that of all ranks together; with a loader of everything all ranks would do the same work",
    });
  }
  if (test && isSharded(test) && !isShardOf(test, communicator)) {
    throw new OptionError({
      rule: `Trainer: test is the loader of all samples, or of this rank's shard among ${size}`,
      got: describeShard(test),
      fix: "Make it with { shard: communicator }",
    });
  }
}

export const isSharded = ({ shard }: BatchSource): boolean => shard !== undefined && shard.size > 1;

const isShardOf = ({ shard }: BatchSource, { rank, size }: Communicator): boolean =>
  shard?.size === size && shard.rank === rank;

const describeShard = ({ shard }: BatchSource): string =>
  shard && shard.size > 1 ? `the shard of rank ${shard.rank} of ${shard.size}` : "a loader without a shard";

/**
 * Gives all ranks one start: the model and the order of batches of rank 0; once steps are done each has buffers of its own.
 * Throws OptionError on all where they are set to different work.
 */
export function startTogether(options: ReadLoopOptions, step: number): void {
  const { communicator, model, train } = options;
  if (communicator.size === 1) return;
  const all = gatherJson(communicator, { ...common(options), "steps done": step, state: train.state });
  const { state, ...first } = all[0]!;
  for (const key of Object.keys(first) as (keyof typeof first)[]) {
    const given = all.map((facts) => facts[key]);
    if (given.every((value) => value === first[key])) continue;
    throw onAllRanks(
      new OptionError({
        rule: `Trainer: all ranks train with the same options and data, and so with one number of ${key}`,
        got: given.map((value, rank) => `${value} on rank ${rank}`).join(", "),
      }),
    );
  }
  if (step === 0) broadcastState(communicator, model);
  else broadcastTensors(communicator, model.parameters(), 0);
  if (communicator.rank > 0) train.state = state;
}

/** Where a rank's random numbers begin, from where rank 0's stand: ranks must not drop the same units of their samples. */
export function randomOfRank(first: RandomState, rank: number): RandomState {
  if (rank === 0) return first;
  const own = new Random(rank);
  const [a, b, c, d] = first.words.map((word) => new Random(word ^ own.bits()).bits());
  return { words: [a!, b!, c!, d! | 1], spare: null };
}

/** Gives each rank random numbers of its own, from where rank 0's stand. */
export function spreadRandom({ communicator }: ReadLoopOptions): void {
  if (communicator.size === 1) return;
  globalRandom.state = randomOfRank(randomStates(communicator)[0]!, communicator.rank);
}

/** Where the random numbers of all ranks stand. */
export const randomStates = (communicator: Communicator): RandomState[] =>
  communicator.size === 1 ? [globalRandom.state] : gatherJson(communicator, globalRandom.state);
