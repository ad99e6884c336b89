import type { Tensor } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkChannels, checkFeatures, checkRank } from "../../norm/checks.js";
import { family, type NormName, type NormTraits } from "../../norm/family.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export type BatchNormOptions = RunningNormOptions & ActivationOption;

/** Batch normalization and what is built on it: checks and views here, the statistics in `normalize`. */
export abstract class BatchNormBase extends RunningNorm {
  protected activation: NormActivation | null = null;

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
    const { eps, running, numFeatures, activation } = this;
    const inputs = { x, ...this.affine(x.shape[0]!) };
    if (running && !this.training) return batchNormEval(inputs, running, { axis, eps, activation });
    const { normalizingVariance: variance } = this.conventions;
    const { out, extra } = batchNorm(inputs, { axis, eps, variance, activation });
    this.follow({ statistics: extra, repeat: 1, values: x.size / numFeatures });
    disposeStatistics(extra);
    return out;
  }
}

/** Batch normalization whose output can go through an activation in the same pass. */
abstract class ActivatedBatchNorm extends BatchNormBase {
  constructor(layer: NormName, numFeatures: number | Shape, options?: BatchNormOptions) {
    super(layer, numFeatures, options, activationDefault);
    this.activation = readActivation(layer, options?.activation ?? null);
  }
}

/**
 * Batch normalization of an input of any rank, channels on any `axis`. With a shape instead of a number, [N, ...shape]
 * is normalized feature by feature: statistics over the batch alone, and a weight and a bias for each feature.
 */
export class BatchNorm extends ActivatedBatchNorm {
  constructor(numFeatures: number | Shape, options?: BatchNormOptions) {
    super("BatchNorm", numFeatures, options);
  }
}

/** Batch normalization of [N, C] or [N, C, L]. */
export class BatchNorm1d extends ActivatedBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm1d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, H, W]. */
export class BatchNorm2d extends ActivatedBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm2d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, D, H, W]. */
export class BatchNorm3d extends ActivatedBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm3d", numFeatures, options);
  }
}
