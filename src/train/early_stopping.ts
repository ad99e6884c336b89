import { OptionError } from "../base/errors.js";
import { checkNonNegative, checkPositiveInteger, readOptions, unknownName } from "../base/options.js";

const monitors = { testAccuracy: 1, testLoss: -1, trainLoss: -1 } as const;
export type Monitor = keyof typeof monitors;

export interface EarlyStoppingOptions {
  /** Epochs without improvement after which training ends. Default 5. */
  readonly patience?: number;
  /** What counts as an improvement: better than the best so far by more than this. Default 0. */
  readonly minDelta?: number;
  /** What is watched, at the end of each epoch. Default "testLoss" with test data, else "trainLoss". */
  readonly monitor?: Monitor;
}

export interface EarlyStoppingState {
  readonly best: number | null;
  readonly epochsWithout: number;
}

export type Watched = Readonly<Record<Monitor, number | null>>;

/** Tells after each epoch whether it is time to stop. */
export class EarlyStopping {
  readonly patience: number;
  readonly minDelta: number;
  readonly monitor: Monitor;
  state: EarlyStoppingState = { best: null, epochsWithout: 0 };

  constructor(options: EarlyStoppingOptions, hasTest: boolean) {
    const { patience, minDelta, monitor } = readOptions("earlyStopping", options, {
      patience: 5,
      minDelta: 0,
      monitor: (hasTest ? "testLoss" : "trainLoss") as Monitor,
    });
    const names = Object.keys(monitors);
    if (!names.includes(monitor)) throw unknownName(`monitor is one of ${names.join(", ")}`, String(monitor), names);
    if (!hasTest && monitor !== "trainLoss") {
      throw new OptionError({
        rule: `earlyStopping can watch ${monitor} when the trainer has test data`,
        got: "none",
        fix: 'Pass `test`, or watch "trainLoss"',
      });
    }
    this.patience = checkPositiveInteger("patience", patience);
    this.minDelta = checkNonNegative("minDelta", minDelta);
    this.monitor = monitor;
  }

  /** True when this epoch was the last one that patience allows. */
  done(watched: Watched): boolean {
    const value = watched[this.monitor];
    const { best, epochsWithout } = this.state;
    const sign = monitors[this.monitor];
    const better = value !== null && (best === null || sign * (value - best) > this.minDelta);
    this.state = better ? { best: value, epochsWithout: 0 } : { best, epochsWithout: epochsWithout + 1 };
    return this.state.epochsWithout >= this.patience;
  }
}
