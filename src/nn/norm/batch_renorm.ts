import type { Tensor } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import { batchRenorm, renormAffine } from "../../autograd/ops/batch_renorm.js";
import type { GroupMoments } from "../../autograd/ops/group_moments.js";
import { OptionError } from "../../base/errors.js";
import { checkNumber } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { disposeStatistics } from "./running_stats.js";
import { SynchronizedBatchNorm, type SynchronizedOptions } from "./synchronized.js";

/** A bound, or one for each number of batches seen so far (0 at first). */
export type RenormLimit = number | ((seen: number) => number);

export interface BatchRenormOptions extends SynchronizedOptions {
  /** r stays in [1 / rMax, rMax]. Default: 1 for 5,000 batches, from there in a line to 3 at 40,000. */
  readonly rMax?: RenormLimit;
  /** d stays in [-dMax, dMax]. Default: 0 for 5,000 batches, from there in a line to 5 at 25,000. */
  readonly dMax?: RenormLimit;
}

const START = 5_000;
const line = (from: number, to: number, end: number) => (seen: number) =>
  from + (to - from) * Math.min(1, Math.max(0, (seen - START) / (end - START)));

/** The schedules of the paper's experiments: batch normalization first, relaxed once the running statistics are good. */
export const renormSchedule = { rMax: line(1, 3, 40_000), dMax: line(0, 5, 25_000) } as const;

const bounds = {
  rMax: ["a number of at least 1", (v: number) => v >= 1],
  dMax: ["a number of at least 0", (v: number) => v >= 0],
} as const;

/**
 * Batch normalization corrected towards the running statistics, so that training and evaluation compute nearly the same
 * also with small batches. Keeps a running variance where the paper keeps a running sigma, as all batch norms here do. With a
 * communicator the batch is that of all its ranks.
 */
export class BatchRenorm extends SynchronizedBatchNorm {
  rMax: RenormLimit;
  dMax: RenormLimit;

  constructor(numFeatures: number | Shape, options?: BatchRenormOptions) {
    super("BatchRenorm", numFeatures, options, renormSchedule);
    if (!this.running) {
      throw new OptionError({
        rule: "BatchRenorm corrects towards its running statistics",
        got: "trackRunningStats: false",
        fix: "Use BatchNorm, which does without",
      });
    }
    this.rMax = options?.rMax ?? renormSchedule.rMax;
    this.dMax = options?.dMax ?? renormSchedule.dMax;
    for (const name of ["rMax", "dMax"] as const) if (typeof this[name] !== "function") this.limit(name, 0);
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    if (this.shares) return super.normalize(x, axis);
    const { eps, numFeatures } = this;
    const inputs = { x, ...this.affine(x.shape[0]!) };
    if (!this.training) return batchNormEval(inputs, this.running!, { axis, eps });
    const { out, extra } = batchRenorm(inputs, { axis, ...this.#correction() });
    this.follow({ statistics: extra, repeat: 1, values: x.size / numFeatures });
    disposeStatistics(extra);
    return out;
  }

  protected override affineAmong(x: Tensor, moments: GroupMoments) {
    return renormAffine({ x, ...super.affineAmong(x, moments) }, moments, this.#correction());
  }

  #correction() {
    const { eps, conventions } = this;
    const seen = this.numBatchesTracked!.item();
    const limits = { rMax: this.limit("rMax", seen), dMax: this.limit("dMax", seen) };
    return { eps, variance: conventions.normalizingVariance, running: this.running!, ...limits };
  }

  private limit(name: "rMax" | "dMax", seen: number): number {
    const given = this[name];
    const [where, test] = bounds[name];
    if (typeof given !== "function") return checkNumber(`BatchRenorm: ${name}`, given, where, test);
    return checkNumber(`BatchRenorm: ${name} after ${seen} batches`, given(seen), where, test);
  }
}
