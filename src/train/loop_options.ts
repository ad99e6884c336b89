import { type Communicator, loopback } from "../base/communicator.js";
import { OptionError } from "../base/errors.js";
import { checkBoolean, checkNumber, checkPositiveInteger, readOptions } from "../base/options.js";
import { Module } from "../nn/module.js";
import type { Callback } from "./callback.js";
import type { EarlyStoppingOptions } from "./early_stopping.js";
import type { BatchSource, Loss, TrainerOptimizer, TrainerScheduler } from "./parts.js";
import { checkForRanks } from "./ranks.js";

export interface LoopOptions {
  readonly model: Module;
  readonly optimizer: TrainerOptimizer;
  /** A loss module such as `new nn.CrossEntropyLoss()`, or a function of outputs and targets. */
  readonly loss: Loss;
  readonly train: BatchSource;
  /** Evaluated after each epoch. */
  readonly test?: BatchSource;
  readonly epochs: number;
  readonly scheduler?: TrainerScheduler;
  /** When the schedule moves on. Default "epoch". */
  readonly schedulerEvery?: "step" | "epoch";
  readonly callbacks?: readonly Callback[];
  /**
   * The ranks that train together: `initDistributed()`. Each makes the same trainer, with a train loader made with
   * `shard: communicator`. Default: this one rank alone.
   */
  readonly communicator?: Communicator;
  /** Batches to one step of the optimizer, with the gradient and the loss of all of them joined. Default 1. */
  readonly accumulateSteps?: number;
  /** Captures forward and backward, which from the third batch of a shape on are replayed (docs/capture.md). Default false. */
  readonly capture?: boolean;
  /** Gradients are scaled so that their joint norm is at most this. */
  readonly clipNorm?: number;
  readonly earlyStopping?: EarlyStoppingOptions;
  /** Also evaluates every so many steps; the run's event log then tells when an accuracy was reached. */
  readonly evaluateEverySteps?: number;
  /** Takes the statistics of normalization layers every so many steps; they cost a pass over each layer's input. */
  readonly normStatisticsEverySteps?: number;
  /** Seeds the generator behind dropout and all else random as training starts; a resumed run takes up its own state. */
  readonly seed?: number;
  /** Name of the run in progress, events and reports. */
  readonly name?: string;
  /** What else to tell about the run in its first event. */
  readonly settings?: Readonly<Record<string, string | number | boolean | null>>;
}

export type ReadLoopOptions = Required<Pick<LoopOptions, Given>> & Omit<typeof loopDefaults, Given>;
type Given = "model" | "optimizer" | "loss" | "train" | "epochs";

const optional = <T>(): T | undefined => undefined;

export const loopDefaults = {
  model: optional<Module>(),
  optimizer: optional<TrainerOptimizer>(),
  loss: optional<Loss>(),
  train: optional<BatchSource>(),
  test: optional<BatchSource>(),
  epochs: optional<number>(),
  scheduler: optional<TrainerScheduler>(),
  schedulerEvery: "epoch" as "step" | "epoch",
  callbacks: [] as readonly Callback[],
  communicator: loopback as Communicator,
  accumulateSteps: 1,
  capture: false,
  clipNorm: optional<number>(),
  earlyStopping: optional<EarlyStoppingOptions>(),
  evaluateEverySteps: optional<number>(),
  normStatisticsEverySteps: optional<number>(),
  seed: optional<number>(),
  name: "",
  settings: {} as NonNullable<LoopOptions["settings"]>,
};

export function readLoopOptions(given: LoopOptions): ReadLoopOptions {
  const o = readOptions("Trainer", given, loopDefaults);
  const { model, optimizer, loss, train, epochs } = o;
  if (!(model instanceof Module)) throw missing("model", "a Module", model);
  if (typeof optimizer?.step !== "function") throw missing("optimizer", "an optimizer", optimizer);
  if (typeof loss !== "function" && !(loss instanceof Module)) throw missing("loss", "a Module or a function", loss);
  if (!isLoader(train)) throw missing("train", "a DataLoader", train);
  if (o.test !== undefined && !isLoader(o.test)) throw missing("test", "a DataLoader", o.test);
  if (o.schedulerEvery !== "step" && o.schedulerEvery !== "epoch") {
    throw missing("schedulerEvery", '"step" or "epoch"', o.schedulerEvery);
  }
  checkPositiveInteger("Trainer: epochs", epochs);
  checkPositiveInteger("Trainer: accumulateSteps", o.accumulateSteps);
  checkBoolean("Trainer: capture", o.capture);
  if (o.capture && o.accumulateSteps > 1) {
    throw new OptionError({
      rule: "Trainer: capture replays a step of one batch",
      got: `accumulateSteps ${o.accumulateSteps}`,
      fix: "Leave out one of the two",
    });
  }
  if (typeof o.communicator?.allReduce !== "function") {
    throw missing("communicator", "a Communicator, as initDistributed() gives", o.communicator);
  }
  if (o.clipNorm !== undefined) checkNumber("Trainer: clipNorm", o.clipNorm, "above 0", (v) => v > 0);
  for (const key of ["evaluateEverySteps", "normStatisticsEverySteps"] as const) {
    if (o[key] !== undefined) checkPositiveInteger(`Trainer: ${key}`, o[key]);
  }
  if (o.evaluateEverySteps !== undefined && !o.test) throw missing("test", "a DataLoader to evaluate on", undefined);
  if (o.seed !== undefined) checkNumber("Trainer: seed", o.seed, "a whole number", Number.isSafeInteger);
  if (train.length === 0) {
    throw new OptionError({
      rule: "Trainer: train must hand out at least one batch in an epoch",
      got: `none (batches of ${train.batchSize})`,
      fix: "Give it more samples, a smaller batchSize, or dropLast: false",
    });
  }
  const read = { ...o, model, optimizer, loss, train, epochs: epochs! };
  checkForRanks(read);
  return read;
}

const isLoader = (value: unknown): value is BatchSource =>
  typeof (value as BatchSource | undefined)?.[Symbol.iterator] === "function" &&
  typeof (value as BatchSource).length === "number" &&
  typeof (value as BatchSource).state === "object";

const missing = (name: string, what: string, got: unknown): OptionError =>
  new OptionError({
    rule: `Trainer: ${name} must be ${what}`,
    got: got === undefined ? "nothing" : typeof got === "object" ? (got?.constructor?.name ?? "null") : String(got),
  });
