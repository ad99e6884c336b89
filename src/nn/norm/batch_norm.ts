import type { Tensor } from "../../autograd/index.js";
import { batchNorm, batchNormEval } from "../../autograd/ops/batch_norm.js";
import { batchNormEvalInPlace } from "../../autograd/ops/in_place_batch_norm.js";
import { OptionError, StateError } from "../../base/errors.js";
import { checkBoolean } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkBatchStatistics, checkChannels, checkFeatures, checkRank } from "../../norm/checks.js";
import { family, type NormName, type NormTraits } from "../../norm/family.js";
import { batchView } from "../../norm/views.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";
import { RunningNorm, type RunningNormOptions } from "./running_norm.js";
import { disposeStatistics } from "./running_stats.js";

export interface BatchNormOptions extends RunningNormOptions, ActivationOption {
  /**
   * Evaluation writes the output over the input's memory; what else reads the input afterwards finds the output. Only
   * evaluation can: a layer made so refuses to train, and needs running statistics.
   */
  readonly inplace?: boolean;
}

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
    if (this.training || !this.running) this.checkFeatureBatch(x.shape);
    return this.normalize(x.reshape([-1, numFeatures]), 1).reshape(x.shape);
  }

  /** Whether a per-feature batch has what statistics need, said of the input's own shape. */
  protected checkFeatureBatch(shape: Shape): void {
    checkBatchStatistics(this.layer, shape, batchView([shape[0]!, this.numFeatures]));
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

/** The plain layers: their output can go through an activation in the same pass, or take the input's place. */
abstract class PlainBatchNorm extends BatchNormBase {
  readonly inplace: boolean;

  constructor(layer: NormName, numFeatures: number | Shape, options?: BatchNormOptions) {
    super(layer, numFeatures, options, { ...activationDefault, inplace: false });
    this.activation = readActivation(layer, options?.activation ?? null);
    this.inplace = checkBoolean(`${layer}: inplace`, options?.inplace ?? false);
    if (this.inplace && (this.activation || !this.runningMean)) {
      throw new OptionError({
        rule: `${layer} with inplace evaluates by running statistics, without an activation of its own`,
        got: this.activation ? `activation "${this.activation.op}"` : "trackRunningStats false",
        fix: "Leave inplace out",
      });
    }
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    const { layer, eps, inplace, running } = this;
    if (!inplace || !running) return super.normalize(x, axis);
    if (this.training) {
      throw new StateError({
        rule: `${layer} with inplace writes over its input, which backward in training still needs`,
        got: "a call in training",
        fix: "Call eval() first, or make the layer without inplace",
      });
    }
    return batchNormEvalInPlace({ x, ...this.affine(x.shape[0]!) }, running, { axis, eps });
  }
}

/**
 * Batch normalization of an input of any rank, channels on any `axis`. With a shape instead of a number, [N, ...shape]
 * is normalized feature by feature: statistics over the batch alone, and a weight and a bias for each feature.
 */
export class BatchNorm extends PlainBatchNorm {
  constructor(numFeatures: number | Shape, options?: BatchNormOptions) {
    super("BatchNorm", numFeatures, options);
  }
}

/** Batch normalization of [N, C] or [N, C, L]. */
export class BatchNorm1d extends PlainBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm1d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, H, W]. */
export class BatchNorm2d extends PlainBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm2d", numFeatures, options);
  }
}

/** Batch normalization of [N, C, D, H, W]. */
export class BatchNorm3d extends PlainBatchNorm {
  constructor(numFeatures: number, options?: BatchNormOptions) {
    super("BatchNorm3d", numFeatures, options);
  }
}
