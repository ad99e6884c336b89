import type { Tensor } from "../../autograd/index.js";
import { syncBatchNorm } from "../../autograd/ops/sync_batch_norm.js";
import { type Communicator, loopback } from "../../base/communicator.js";
import { OptionError } from "../../base/errors.js";
import type { Shape } from "../../base/shape.js";
import { BatchNormBase } from "./batch_norm.js";
import type { RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export interface SyncBatchNormOptions extends RunningNormOptions {
  /** The group of ranks to share statistics with; the default is this one rank alone, which makes a plain BatchNorm. */
  readonly communicator?: Communicator;
}

/**
 * Batch normalization over the batches of all ranks of a group. In training every rank calls forward and backward, also
 * with an empty batch; evaluation needs no communication. Running statistics have the same bits on all ranks.
 */
export class SyncBatchNorm extends BatchNormBase {
  readonly communicator: Communicator;

  constructor(numFeatures: number | Shape, options?: SyncBatchNormOptions) {
    super("SyncBatchNorm", numFeatures, options, { communicator: loopback });
    this.communicator = options?.communicator ?? loopback;
    if (typeof this.communicator.allGather !== "function" || !(this.communicator.size >= 1)) {
      throw new OptionError({
        rule: "SyncBatchNorm: communicator must be a Communicator",
        got: String(this.communicator),
        fix: 'Take one from joinGroup() of "evenkeel/distributed"',
      });
    }
  }

  /** With other ranks, what this one has is not all: they decide together, and none throws alone. */
  protected override checkFeatureBatch(shape: Shape): void {
    if (this.communicator.size === 1) super.checkFeatureBatch(shape);
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    const { eps, running, communicator } = this;
    if (communicator.size === 1 || (running && !this.training)) return super.normalize(x, axis);
    const inputs = { x, ...this.affine(Math.max(1, x.shape[0]!)) };
    const { normalizingVariance: variance } = this.conventions;
    const { out, extra, values } = syncBatchNorm(inputs, { axis, eps, variance, communicator });
    this.follow({ statistics: extra, repeat: 1, values });
    disposeStatistics(extra);
    return out;
  }
}
