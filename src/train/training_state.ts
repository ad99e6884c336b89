import { FormatError } from "../base/errors.js";
import type { RandomState } from "../base/random.js";
import type { DataLoaderState } from "../data/browser.js";
import type { EarlyStoppingState } from "./early_stopping.js";
import type { Evaluation } from "./evaluate.js";
import type { RankBuffers } from "./rank_buffers.js";

/** Everything that training needs to go on: plain data, tensors and typed arrays. */
export interface TrainingState {
  readonly version: 1;
  readonly step: number;
  readonly epochsDone: number;
  /** Steps that were done when the epoch in progress began. */
  readonly epochStart: number;
  readonly seconds: number;
  readonly stepSeconds: number;
  /** The float32 losses of all steps. */
  readonly losses: Float32Array;
  readonly lastEvaluation: (Evaluation & { readonly step: number }) | null;
  /** By name, as stateDict() gives and loadStateDict() takes them. */
  readonly model: unknown;
  readonly optimizer: unknown;
  readonly scheduler: unknown;
  readonly stopping: EarlyStoppingState | null;
  /** As given to the trainer, for whoever builds its parts again. */
  readonly settings: Readonly<Record<string, string | number | boolean | null>>;
  readonly loader: DataLoaderState;
  /** Of rank 0. */
  readonly random: RandomState;
  /** Of the ranks from 1 on; missing where nobody thought of several. */
  readonly otherRandom?: readonly RandomState[];
  /** Of the ranks from 1 on, where they are not those in `model`. */
  readonly otherBuffers?: readonly RankBuffers[];
  /** Ranks that trained. */
  readonly worldSize?: number;
}

const counts = ["step", "epochsDone", "epochStart"] as const;
const times = ["seconds", "stepSeconds"] as const;
const objects = ["model", "optimizer", "loader", "random", "settings"] as const;

/** Throws FormatError when a part that restore() relies on is not there. */
export function checkTrainingState(value: unknown): TrainingState {
  const state = (value ?? {}) as Record<string, unknown>;
  const wrong = [
    ...(state.version === 1 ? [] : ["version"]),
    ...counts.filter((key) => !Number.isSafeInteger(state[key]) || (state[key] as number) < 0),
    ...times.filter((key) => typeof state[key] !== "number"),
    ...objects.filter((key) => typeof state[key] !== "object" || state[key] === null),
    ...(state.losses instanceof Float32Array && state.losses.length === state.step ? [] : ["losses"]),
  ];
  if (wrong.length === 0) return value as TrainingState;
  throw new FormatError({
    rule: "A training state has the parts that Trainer saves",
    got: `one where ${wrong.join(", ")} ${wrong.length === 1 ? "is" : "are"} missing or wrong`,
    fix: "Resume from a checkpoint that a Trainer wrote; for others use loadCheckpoint",
  });
}
