import type { Tensor } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import { checkChannels, checkRank } from "../../norm/checks.js";
import { family, type NormTraits } from "../../norm/family.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export type BatchNormOptions = RunningNormOptions;

abstract class BatchNormBase extends RunningNorm {
  /** Batch statistics in training or without running ones; running statistics in evaluation. */
  override forward(x: Tensor): Tensor {
    const { layer, axis, eps, weight, bias, running, numFeatures } = this;
    const { ranks, layouts }: NormTraits = family[layer];
    if (ranks) checkRank(layer, x.shape, ranks, layouts!);
    checkChannels(layer, x.shape, axis, numFeatures);
    const inputs = { x, weight, bias };
    if (running && !this.training) return batchNormEval(inputs, running, { axis, eps });
    const { out, extra } = batchNorm(inputs, { axis, eps });
    this.follow({ statistics: extra, repeat: 1, values: x.size / numFeatures });
    disposeStatistics(extra);
    return out;
  }
}

/** Batch normalization of an input of any rank, channels on any `axis`. */
export class BatchNorm extends BatchNormBase {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm", numFeatures, options);
  }
}

/** Batch normalization of [N, C] or [N, C, L]. */
export class BatchNorm1d extends BatchNormBase {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm1d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, H, W]. */
export class BatchNorm2d extends BatchNormBase {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm2d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, D, H, W]. */
export class BatchNorm3d extends BatchNormBase {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm3d", numFeatures, options);
  }
}
