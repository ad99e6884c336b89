import { OptionError } from "../base/errors.js";
import { checkBoolean, checkNumber, checkPositiveInteger, readOptions } from "../base/options.js";
import { Module } from "../nn/module.js";
import type { Callback } from "./callback.js";
import type { EarlyStoppingOptions } from "./early_stopping.js";
import type { BatchSource, Loss, TrainerOptimizer, TrainerScheduler } from "./parts.js";

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

export type ReadLoopOptions = ReturnType<typeof readLoopOptions>;

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
  capture: false,
  clipNorm: optional<number>(),
  earlyStopping: optional<EarlyStoppingOptions>(),
  evaluateEverySteps: optional<number>(),
  normStatisticsEverySteps: optional<number>(),
  seed: optional<number>(),
  name: "",
  settings: {} as NonNullable<LoopOptions["settings"]>,
};

export function readLoopOptions(given: LoopOptions) {
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
  checkBoolean("Trainer: capture", o.capture);
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
  return { ...o, model, optimizer, loss, train, epochs: epochs! };
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
