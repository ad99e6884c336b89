import type { Tensor } from "../../autograd/index.js";
import type { NormInputs } from "../../autograd/ops/fused_norm.js";
import type { GroupMoments } from "../../autograd/ops/group_moments.js";
import {
  batchNormEvalInPlace,
  batchNormInPlace,
  batchNormInPlaceByGroup,
} from "../../autograd/ops/in_place_batch_norm.js";
import type { GroupNormalizeOptions } from "../../autograd/ops/sync_batch_norm.js";
import { byUnbiasedVariance } from "../../autograd/ops/unbiased_variance.js";
import { OptionError } from "../../base/errors.js";
import { checkChoice, checkNumber } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { disposeStatistics } from "./running_stats.js";
import { SynchronizedBatchNorm, type SynchronizedOptions } from "./synchronized.js";

export interface InPlaceActivatedBatchNormOptions extends SynchronizedOptions {
  /** What follows the normalization. Default "leakyRelu"; "identity" for nothing. */
  readonly activation?: "leakyRelu" | "identity";
  /** leakyRelu's slope below 0, above 0 itself: the activation is inverted in backward. Default 0.01. */
  readonly negativeSlope?: number;
}

const defaults = { activation: "leakyRelu" as "leakyRelu" | "identity", negativeSlope: 0.01 };

/**
 * Batch normalization and a leaky rectifier whose output is written over their input, which backward computes anew: of
 * the three tensors that a convolution, BatchNorm2d and LeakyReLU keep for backward, one is left. The weight counts as
 * |weight| + eps, so that it can be divided by. The tensor that goes in changes: nothing else may need its values. With a
 * communicator the batch is that of all its ranks, and each still keeps its output alone.
 */
export class InPlaceActivatedBatchNorm extends SynchronizedBatchNorm {
  /** 1 where nothing follows. */
  readonly negativeSlope: number;

  constructor(numFeatures: number | Shape, options?: InPlaceActivatedBatchNormOptions) {
    const name = "InPlaceActivatedBatchNorm";
    super(name, numFeatures, options, defaults);
    const choice = checkChoice(`${name}: activation`, options?.activation ?? "leakyRelu", ["leakyRelu", "identity"]);
    const given = options?.negativeSlope ?? defaults.negativeSlope;
    const isSlope = (v: number) => v > 0 && Number.isFinite(v);
    const slope = checkNumber(`${name}: negativeSlope`, given, "a finite number above 0", isSlope);
    this.negativeSlope = choice === "identity" ? 1 : slope;
    if (this.eps === 0 && this.weight) {
      throw new OptionError({
        rule: `${name}: eps must be above 0, since it keeps the weight away from 0`,
        got: "0",
        fix: "Use 1e-5, or { affine: false }",
      });
    }
  }

  protected override normalize(x: Tensor, axis: number): Tensor {
    if (this.shares) return super.normalize(x, axis);
    const { eps, running, numFeatures, negativeSlope, conventions } = this;
    const inputs = { x, ...this.affine(x.shape[0]!) };
    if (running && !this.training) return batchNormEvalInPlace(inputs, running, { axis, eps, negativeSlope });
    const values = x.size / numFeatures;
    const used =
      conventions.normalizingVariance === "biased"
        ? { inputs, eps }
        : byUnbiasedVariance(inputs, eps, values, [numFeatures]);
    const { out, extra } = batchNormInPlace(used.inputs, { axis, eps: used.eps, negativeSlope });
    this.follow({ statistics: extra, repeat: 1, values });
    disposeStatistics(extra);
    return out;
  }

  protected override normalizeBy(moments: GroupMoments, inputs: NormInputs, options: GroupNormalizeOptions): Tensor {
    return batchNormInPlaceByGroup(inputs, moments, { ...options, negativeSlope: this.negativeSlope });
  }

  protected override affine(samples: number): { weight: Tensor | null; bias: Tensor | null } {
    const { weight, bias } = super.affine(samples);
    return { weight: weight && positive(weight, this.eps), bias };
  }
}

/** |weight| + eps, with slope 1 at 0: the one of abs, 0, would keep a weight that starts there from ever moving. */
function positive(weight: Tensor, eps: number): Tensor {
  const sign = weight.detach().less(0).mul(-2).add(1);
  return weight.mul(sign).add(eps);
}
