import type { TrainingEvent } from "../base/events.js";

/** What a callback may look at and ask for. */
export interface TrainerHandle {
  /** Optimizer steps done so far. */
  readonly step: number;
  /** The epoch in progress, counted from 1. */
  readonly epoch: number;
  /** Ends the run after the step in progress. */
  stop(): void;
}

/**
 * Called as a run goes on; methods that are missing are skipped, and a promise is waited for.
 * An error thrown from a callback ends the run.
 */
export interface Callback {
  /** Every event of the run, in order. */
  onEvent?(event: TrainingEvent, trainer: TrainerHandle): void | Promise<void>;
  onRunStart?(event: Extract<TrainingEvent, { type: "runStart" }>, trainer: TrainerHandle): void | Promise<void>;
  onStep?(event: Extract<TrainingEvent, { type: "step" }>, trainer: TrainerHandle): void | Promise<void>;
  onEpochEnd?(event: Extract<TrainingEvent, { type: "epochEnd" }>, trainer: TrainerHandle): void | Promise<void>;
  onEvaluation?(event: Extract<TrainingEvent, { type: "evaluation" }>, trainer: TrainerHandle): void | Promise<void>;
  onRunEnd?(event: Extract<TrainingEvent, { type: "runEnd" }>, trainer: TrainerHandle): void | Promise<void>;
}

const methods = {
  runStart: "onRunStart",
  step: "onStep",
  epochEnd: "onEpochEnd",
  evaluation: "onEvaluation",
  runEnd: "onRunEnd",
} as const;

/** Gives an event to each callback in turn. */
export async function dispatch(
  callbacks: readonly Callback[],
  event: TrainingEvent,
  trainer: TrainerHandle,
): Promise<void> {
  const own = (methods as Partial<Record<TrainingEvent["type"], Exclude<keyof Callback, "onEvent">>>)[event.type];
  for (const callback of callbacks) {
    await callback.onEvent?.(event, trainer);
    // The table above pairs each type with the method that takes it.
    if (own) await callback[own]?.(event as never, trainer);
  }
}
