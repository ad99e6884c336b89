import type { Tensor } from "../autograd/index.js";
import type { Batch, DataLoaderState, Shard } from "../data/browser.js";
import type { Module } from "../nn/module.js";

/** What a trainer needs of a batch; `globalSize` only with several ranks. */
export type SourceBatch = Pick<Batch, "x" | "y" | "size"> & Partial<Pick<Batch, "globalSize">>;

/** What a trainer needs of a loader; a DataLoader has it. */
export interface BatchSource extends Iterable<SourceBatch> {
  /** Which rank's part of every batch it hands out; without it, all of them. */
  readonly shard?: Shard;
  /** Batches in an epoch. */
  readonly length: number;
  readonly batchSize: number;
  state: DataLoaderState;
}

/** Loss of outputs against targets: a scalar tensor. */
export type LossFunction = (output: Tensor, target: Tensor) => Tensor;

/** A loss module, or a function that computes a loss. */
export type Loss = Module | LossFunction;

export const lossFunction = (loss: Loss): LossFunction =>
  typeof loss === "function" ? loss : (output, target) => loss.forward(output, target);

/** What a trainer needs of an optimizer. */
export interface TrainerOptimizer {
  readonly paramGroups: readonly { lr: number }[];
  step(): void;
  zeroGrad(): void;
  stateDict(): unknown;
  loadStateDict(state: never): void;
}

/** What a trainer needs of a learning-rate schedule. */
export interface TrainerScheduler {
  /** `metric` is for schedules that watch one. */
  step(metric?: number): void;
  stateDict(): unknown;
  loadStateDict(state: never): void;
}
