/**
 * What a training run reports, as plain data: an event survives JSON.stringify and back unchanged, so a file of
 * events, a report and a web page all read the same thing. Numbers are finite; where one may be missing it is null.
 *
 * `step` counts optimizer steps that are done: the first step's event says 1. `epoch` counts from 1.
 */
export type TrainingEvent =
  | RunStartEvent
  | StepEvent
  | EpochEndEvent
  | EvaluationEvent
  | NormStatisticsEvent
  | CheckpointEvent
  | RunEndEvent;

export interface RunStartEvent {
  readonly type: "runStart";
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  /** Steps that an earlier process did; 0 unless resumed. */
  readonly step: number;
  readonly parameters: number;
  /** Where the model computes; files of early runs lack it. */
  readonly device?: string;
  /** Processes that train together; files of early runs lack it. */
  readonly ranks?: number;
  /** What the run was made with, for people to read. */
  readonly settings: Readonly<Record<string, string | number | boolean | null>>;
}

export interface StepEvent {
  readonly type: "step";
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly lr: number;
  /** Norm of all gradients before clipping; null when nothing is clipped. */
  readonly gradNorm: number | null;
}

export interface EpochEndEvent {
  readonly type: "epochEnd";
  readonly step: number;
  readonly epoch: number;
  /** Mean of the epoch's step losses. */
  readonly loss: number;
  readonly seconds: number;
}

export interface EvaluationEvent {
  readonly type: "evaluation";
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  /** Share of right answers in [0, 1]; null when the task has no classes. */
  readonly accuracy: number | null;
}

/** How a quantity with one value per channel (or per sample and group) is spread. */
export interface Spread {
  readonly mean: number;
  readonly std: number;
  readonly min: number;
  readonly max: number;
}

export interface NormLayerStatistics {
  /** Path of the layer in the model, as in stateDict() keys. */
  readonly layer: string;
  /** "batch", "group", "layer", "instance", "rms" or another kind's name. */
  readonly kind: string;
  /** Mean and biased variance of the layer's input for each channel. */
  readonly inputMean: Spread | null;
  readonly inputVariance: Spread | null;
  readonly runningMean: Spread | null;
  readonly runningVariance: Spread | null;
  readonly gamma: Spread | null;
  readonly beta: Spread | null;
}

export interface NormStatisticsEvent {
  readonly type: "normStatistics";
  readonly step: number;
  readonly epoch: number;
  readonly layers: readonly NormLayerStatistics[];
}

export interface CheckpointEvent {
  readonly type: "checkpoint";
  readonly step: number;
  readonly epoch: number;
  readonly path: string;
  readonly bytes: number;
  readonly seconds: number;
}

export interface RunEndEvent {
  readonly type: "runEnd";
  readonly step: number;
  readonly epoch: number;
  /** "stopped": stop() was called, for example on Ctrl-C; "failed": an error, named in `message`. */
  readonly reason: "finished" | "earlyStopping" | "stopped" | "failed";
  readonly message: string | null;
  readonly seconds: number;
  readonly stepsPerSecond: number;
  readonly trainLoss: number | null;
  readonly testLoss: number | null;
  readonly testAccuracy: number | null;
  /** SHA-256 over the float32 bits (little-endian) of all step losses; null where the platform has no digest. */
  readonly lossHash: string | null;
}

/** All events of one run, in order; the first is its start. */
export interface RunRecord {
  readonly name: string;
  readonly events: readonly TrainingEvent[];
}
