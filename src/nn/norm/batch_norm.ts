import type { Tensor } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import type { Shape } from "../../base/shape.js";
import { checkChannels, checkFeatures, checkRank } from "../../norm/checks.js";
import { family, type NormTraits } from "../../norm/family.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export type BatchNormOptions = RunningNormOptions;

/** Batch normalization and what is built on it: checks and views here, the statistics in `normalize`. */
export abstract class BatchNormBase extends RunningNorm {
  override forward(x: Tensor): Tensor {
    const { layer, axis, numFeatures } = this;
    const { ranks, layouts }: NormTraits = family[layer];
    if (ranks) checkRank(layer, x.shape, ranks, layouts!);
    if (!this.perFeature) {
      checkChannels(layer, x.shape, axis, numFeatures);
      return this.normalize(x, axis);
    }
    checkFeatures(layer, x.shape, this.featureShape);
    return this.normalize(x.reshape([-1, numFeatures]), 1).reshape(x.shape);
  }

  /** Batch statistics in training or without running ones; running statistics in evaluation. Channels lie on `axis`. */
  protected normalize(x: Tensor, axis: number): Tensor {
    const { eps, running, numFeatures } = this;
    const inputs = { x, ...this.affine(x.shape[0]!) };
    if (running && !this.training) return batchNormEval(inputs, running, { axis, eps });
    const { out, extra } = batchNorm(inputs, { axis, eps, variance: this.conventions.normalizingVariance });
    this.follow({ statistics: extra, repeat: 1, values: x.size / numFeatures });
    disposeStatistics(extra);
    return out;
  }
}

/**
 * Batch normalization of an input of any rank, channels on any `axis`. With a shape instead of a number, [N, ...shape]
 * is normalized feature by feature: statistics over the batch alone, and a weight and a bias for each feature.
 */
export class BatchNorm extends BatchNormBase {
  constructor(numFeatures: number | Shape, options?: BatchNormOptions) {
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
