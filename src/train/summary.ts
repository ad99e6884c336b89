import type { EvaluationEvent, RunEndEvent, RunRecord, TrainingEvent } from "../base/events.js";

/** A run in a line, for tables and for programs. */
export interface RunSummary {
  readonly name: string;
  readonly testAccuracy: number | null;
  readonly bestTestAccuracy: number | null;
  readonly testLoss: number | null;
  readonly trainLoss: number | null;
  /** The first step after which the test accuracy was at least 95 %; null when it never was, or nobody looked. */
  readonly stepsTo95: number | null;
  readonly steps: number;
  readonly seconds: number | null;
  readonly stepsPerSecond: number | null;
  readonly lossHash: string | null;
  /** How the run ended; "running" when its last event is not there yet. */
  readonly reason: RunEndEvent["reason"] | "running";
}

export const eventsOf = <T extends TrainingEvent["type"]>(
  record: RunRecord,
  type: T,
): Extract<TrainingEvent, { type: T }>[] =>
  record.events.filter((e): e is Extract<TrainingEvent, { type: T }> => e.type === type);

export function summarise(record: RunRecord): RunSummary {
  const evaluations = eventsOf(record, "evaluation");
  const end = eventsOf(record, "runEnd").at(-1);
  const accuracies = evaluations.map((e) => e.accuracy).filter((a) => a !== null);
  const last = evaluations.at(-1);
  const steps = eventsOf(record, "step");
  return {
    name: record.name,
    testAccuracy: end?.testAccuracy ?? last?.accuracy ?? null,
    bestTestAccuracy: accuracies.length > 0 ? Math.max(...accuracies) : null,
    testLoss: end?.testLoss ?? last?.loss ?? null,
    trainLoss: end?.trainLoss ?? eventsOf(record, "epochEnd").at(-1)?.loss ?? null,
    stepsTo95: firstStepAbove(evaluations, 0.95),
    steps: end?.step ?? steps.at(-1)?.step ?? 0,
    seconds: end?.seconds ?? null,
    stepsPerSecond: end?.stepsPerSecond ?? null,
    lossHash: end?.lossHash ?? null,
    reason: end?.reason ?? "running",
  };
}

function firstStepAbove(evaluations: readonly EvaluationEvent[], accuracy: number): number | null {
  return evaluations.find((e) => e.accuracy !== null && e.accuracy >= accuracy)?.step ?? null;
}
