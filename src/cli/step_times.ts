import type { TrainingStep } from "./step_models.js";

/** Spread above which a run counts as disturbed: something else had the machine meanwhile. */
export const DISTURBED = 0.3;

export interface StepTimes {
  /** Milliseconds of each step, in order. */
  readonly milliseconds: readonly number[];
  readonly median: number;
  /** Distance between the quartiles, as a share of the median. */
  readonly spread: number;
  readonly disturbed: boolean;
}

/** The value below which the share `at` of a sorted list lies, between neighbours by a straight line. */
function quantile(sorted: readonly number[], at: number): number {
  const place = at * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (place - low) * (sorted[high]! - sorted[low]!);
}

export function summariseTimes(milliseconds: readonly number[]): StepTimes {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  const spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / median;
  return { milliseconds, median, spread, disturbed: spread > DISTURBED };
}

/** Times `steps` steps, after as many that are not counted as compilation takes. */
export function timeSteps({ step }: TrainingStep, steps: number): StepTimes {
  for (let i = 0; i < WARM_UP; i++) step();
  const times: number[] = [];
  for (let i = 0; i < steps; i++) {
    const began = performance.now();
    step();
    times.push(performance.now() - began);
  }
  return summariseTimes(times);
}

/** The engine swaps in optimised code within the first few calls of a kernel. */
export const WARM_UP = 5;
