import type { Tensor } from "../../autograd/index.js";
import { batchNormEval } from "../../autograd/ops/batch_norm.js";
import { ghostBatchNorm } from "../../autograd/ops/ghost_batch_norm.js";
import { OptionError } from "../../base/errors.js";
import { checkPositiveInteger } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { BatchNormBase } from "./batch_norm.js";
import type { RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export interface GhostBatchNormOptions extends RunningNormOptions {
  /** Samples in a ghost batch; 32 unless numSplits is given. */
  readonly virtualBatchSize?: number;
  /** Instead: how many ghost batches a batch falls into, of ceil(N / numSplits) samples each. */
  readonly numSplits?: number;
}

/**
 * Batch normalization within ghost batches of a large batch. Running statistics move by every ghost batch, in order,
 * each with the momentum's weight; numBatchesTracked counts ghost batches, and so do schedules and the average.
 */
export class GhostBatchNorm extends BatchNormBase {
  readonly virtualBatchSize: number | null;
  readonly numSplits: number | null;

  constructor(numFeatures: number | Shape, options?: GhostBatchNormOptions) {
    super("GhostBatchNorm", numFeatures, options, { virtualBatchSize: 32, numSplits: null });
    const { virtualBatchSize, numSplits } = options ?? {};
    if (virtualBatchSize !== undefined && numSplits !== undefined) {
      throw new OptionError({
        rule: "GhostBatchNorm takes virtualBatchSize or numSplits",
        got: `both, ${virtualBatchSize} and ${numSplits}`,
      });
    }
    const given = numSplits !== undefined;
    this.numSplits = given ? checkPositiveInteger("GhostBatchNorm: numSplits", numSplits) : null;
    this.virtualBatchSize = given
      ? null
      : checkPositiveInteger("GhostBatchNorm: virtualBatchSize", virtualBatchSize ?? 32);
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    const { eps, running, numFeatures, numSplits, virtualBatchSize } = this;
    const samples = x.shape[0]!;
    const inputs = { x, ...this.affine(samples) };
    if (running && !this.training) return batchNormEval(inputs, running, { axis, eps });
    const size = virtualBatchSize ?? Math.max(1, Math.ceil(samples / numSplits!));
    const { normalizingVariance: variance } = this.conventions;
    const { out, extra } = ghostBatchNorm(inputs, { axis, eps, variance, size });
    for (const { statistics, ghosts, values } of extra) {
      for (let g = 0; running && g < ghosts; g++) {
        const part = (t: Tensor) => t.narrow(0, g * numFeatures, numFeatures);
        const one = { mean: part(statistics.mean!), variance: part(statistics.variance) };
        this.follow({ statistics: one, repeat: 1, values });
        disposeStatistics(one);
      }
      disposeStatistics(statistics);
    }
    return out;
  }
}
