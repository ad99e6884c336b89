import { checkNonNegative, checkNumber, checkPositiveInteger, readOptions, unknownName } from "../base/options.js";

/** What a schedule moves: the learning rates of an optimizer's groups. */
interface HasGroups {
  readonly paramGroups: { lr: number }[];
}

/** State of a schedule as plain data. */
export interface ScheduleState {
  readonly count: number;
  readonly [name: string]: number;
}

/** Learning rates as a function of the number of calls; the initial ones are those the optimizer was made with. */
abstract class Schedule {
  protected readonly base: readonly number[];
  protected count = 0;

  constructor(protected readonly optimizer: HasGroups) {
    this.base = optimizer.paramGroups.map((group) => group.lr);
  }

  /** Factor on the initial rate after `count` calls. */
  protected abstract factor(count: number): number;

  /** Moves on by one call (an epoch or a step, as the user calls it) and sets the rates. */
  step(): void {
    this.count++;
    this.apply();
  }

  protected apply(): void {
    for (const [i, group] of this.optimizer.paramGroups.entries()) {
      // Through float32: cosines may differ in the last bit of a double between engines, and training must not.
      group.lr = Math.fround(this.base[i]! * this.factor(this.count));
    }
  }

  /** The current rates, one a group. */
  get lr(): number[] {
    return this.optimizer.paramGroups.map((group) => group.lr);
  }

  stateDict(): ScheduleState {
    return { count: this.count };
  }

  /** Continues where a saved schedule was; rates come with the optimizer's own state. */
  loadStateDict(state: ScheduleState): void {
    this.count = checkNumber(
      "count",
      state.count,
      "a whole number of at least 0",
      (v) => Number.isInteger(v) && v >= 0,
    );
  }
}

/** The rate is multiplied by `gamma` (default 0.1) after every `stepSize` calls. As torch's StepLR. */
export class StepLR extends Schedule {
  private readonly gamma: number;

  constructor(
    optimizer: HasGroups,
    private readonly stepSize: number,
    options?: { gamma?: number },
  ) {
    super(optimizer);
    checkPositiveInteger("StepLR stepSize", stepSize);
    this.gamma = checkNonNegative("StepLR gamma", readOptions("StepLR", options, { gamma: 0.1 }).gamma);
  }

  protected override factor(count: number): number {
    let factor = 1;
    for (let i = Math.floor(count / this.stepSize); i > 0; i--) factor *= this.gamma;
    return factor;
  }
}

/**
 * A straight rise from 0 over `warmup` calls, then half a cosine down to `minFactor` of the rate at call `total`, and
 * constant from there (Loshchilov & Hutter 2017, arXiv:1608.03983). The first step already runs on the first rise.
 */
export class CosineWarmup extends Schedule {
  private readonly options: { warmup: number; total: number; minFactor: number };

  constructor(optimizer: HasGroups, options: { total: number; warmup?: number; minFactor?: number }) {
    super(optimizer);
    this.options = readOptions("CosineWarmup", options, { total: 0, warmup: 0, minFactor: 0 });
    const { total, warmup } = this.options;
    checkPositiveInteger("CosineWarmup total", total);
    checkNumber(
      "CosineWarmup warmup",
      warmup,
      `a whole number in [0, ${total}]`,
      (v) => Number.isInteger(v) && v >= 0 && v <= total,
    );
    checkNumber("CosineWarmup minFactor", this.options.minFactor, "a number in [0, 1]", (v) => v >= 0 && v <= 1);
    this.apply();
  }

  protected override factor(count: number): number {
    const { warmup, total, minFactor } = this.options;
    if (count < warmup) return (count + 1) / (warmup + 1);
    const progress = total === warmup ? 1 : Math.min(1, (count - warmup) / (total - warmup));
    return minFactor + ((1 - minFactor) * (1 + Math.cos(Math.PI * progress))) / 2;
  }
}

/**
 * Lowers the rates by `factor` when a watched number has not improved for more than `patience` calls.
 * As torch's ReduceLROnPlateau with a relative threshold.
 */
export class ReduceLROnPlateau {
  private readonly options: {
    mode: "min" | "max";
    factor: number;
    patience: number;
    threshold: number;
    cooldown: number;
    minLr: number;
  };
  private best: number;
  private bad = 0;
  private resting = 0;

  constructor(
    private readonly optimizer: HasGroups,
    options?: Partial<ReduceLROnPlateau["options"]>,
  ) {
    this.options = readOptions("ReduceLROnPlateau", options, {
      ...{ mode: "min" as const, factor: 0.1, patience: 10, threshold: 1e-4, cooldown: 0, minLr: 0 },
    });
    const { mode, factor, patience, threshold, cooldown, minLr } = this.options;
    if (mode !== "min" && mode !== "max") throw unknownName("mode is min or max", String(mode), ["min", "max"]);
    checkNumber("ReduceLROnPlateau factor", factor, "a number in [0, 1)", (v) => v >= 0 && v < 1);
    for (const [name, v] of Object.entries({ patience, threshold, cooldown, minLr })) {
      checkNonNegative(`ReduceLROnPlateau ${name}`, v);
    }
    this.best = mode === "min" ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  }

  /** Takes the watched number after an epoch. NaN counts as no improvement. */
  step(metric: number): void {
    const { mode, factor, patience, threshold, cooldown, minLr } = this.options;
    const sign = mode === "min" ? -1 : 1;
    const better = sign * metric > sign * this.best * (1 + sign * Math.sign(this.best) * threshold);
    if (better) {
      this.best = metric;
      this.bad = 0;
    } else this.bad++;
    if (this.resting > 0) {
      this.resting--;
      this.bad = 0;
    }
    if (this.bad <= patience) return;
    for (const group of this.optimizer.paramGroups) group.lr = Math.max(minLr, group.lr * factor);
    this.resting = cooldown;
    this.bad = 0;
  }

  stateDict(): ScheduleState {
    // Infinity has no place in JSON; without a best yet there is none to save.
    return { count: this.bad, resting: this.resting, ...(Number.isFinite(this.best) ? { best: this.best } : {}) };
  }

  loadStateDict(state: ScheduleState): void {
    this.bad = state.count;
    this.best = state.best ?? this.best;
    this.resting = state.resting ?? 0;
  }
}
