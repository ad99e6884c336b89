import type { Tensor } from "../../autograd/index.js";
import { sampleAffine } from "../../autograd/ops/sample_affine.js";
import { checkChoice, checkPositiveInteger, readOptions } from "../../base/options.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Embedding } from "../embedding.js";
import { Linear } from "../linear.js";
import { Module } from "../module.js";
import { placementDefaults, readPlacement } from "../placement.js";
import { BatchNorm } from "./batch_norm.js";
import { checkClasses, checkCondition, partsOf } from "./condition.js";
import { conventionDefaults } from "./conventions.js";
import type { RunningNormOptions } from "./running_norm.js";

/** What a condition is: a class number for each sample, or a vector for each sample. */
export type ConditionKind = "class" | "vector";

export interface ConditionalBatchNormOptions
  extends Omit<RunningNormOptions, "affine" | "affineShape" | "parameterGradients"> {
  /** "class" (default): the second argument is numClasses; "vector": it is conditionSize. */
  readonly condition?: ConditionKind;
}

/**
 * Batch normalization with a scale and a shift for each sample, from its class or from a vector.
 * Classes: y = gamma[k] xhat + beta[k]. Vectors: y = (1 + gamma(c)) xhat + beta(c), gamma and beta linear in c.
 *
 * Shapes: x [N, ..., C, ...]; the condition [N] of type int32, or [N, conditionSize].
 * State:  bn.running_mean, bn.running_var, bn.num_batches_tracked; embed.weight [numClasses, 2 C] (gamma, then beta), or
 *         fc.weight [2 C, conditionSize] and fc.bias.
 */
export class ConditionalBatchNorm extends Module {
  readonly condition: ConditionKind;
  readonly bn: BatchNorm;
  readonly embed: Embedding | null;
  readonly fc: Linear | null;
  readonly axis: number;

  constructor(
    readonly numFeatures: number,
    readonly conditionSize: number,
    options?: ConditionalBatchNormOptions,
  ) {
    super();
    const traits = family.ConditionalBatchNorm;
    const { condition, ...o } = readOptions("ConditionalBatchNorm", options, {
      condition: "class" as ConditionKind,
      eps: traits.eps as number,
      momentum: traits.momentum as NonNullable<RunningNormOptions["momentum"]> | null,
      trackRunningStats: traits.trackRunningStats as boolean,
      axis: 1,
      runningStats: "update" as "update" | "guard",
      normalizingVariance: conventionDefaults.normalizingVariance,
      runningVariance: conventionDefaults.runningVariance,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    checkPositiveInteger("ConditionalBatchNorm: numFeatures", numFeatures);
    this.condition = checkChoice("ConditionalBatchNorm: condition", condition, ["class", "vector"]);
    const ofClass = this.condition === "class";
    checkPositiveInteger(`ConditionalBatchNorm: ${ofClass ? "numClasses" : "conditionSize"}`, conditionSize);
    this.bn = new BatchNorm(numFeatures, { ...o, affine: false });
    this.axis = this.bn.axis;
    this.embed = ofClass ? new Embedding(conditionSize, 2 * numFeatures, placed) : null;
    // A table of gammas and betas, not the weight of a map.
    if (this.embed) this.embed.weight.noWeightDecay = true;
    this.fc = ofClass ? null : new Linear(conditionSize, 2 * numFeatures, placed);
    this.resetParameters();
  }

  /** Classes begin as plain batch normalization: gamma 1, beta 0. The linear map begins as Linear does. */
  resetParameters(): void {
    this.fc?.resetParameters();
    const [width, weight] = [2 * this.numFeatures, this.embed?.weight];
    weight?.assign(Float64Array.from({ length: weight.size }, (_, i) => (i % width < this.numFeatures ? 1 : 0)));
  }

  override forward(x: Tensor, condition: Tensor): Tensor {
    const { numFeatures, conditionSize, axis, embed, fc } = this;
    checkChannels("ConditionalBatchNorm", x.shape, axis, numFeatures);
    if (embed) checkClasses("ConditionalBatchNorm", condition, x, conditionSize);
    else checkCondition("ConditionalBatchNorm", condition, x, conditionSize);
    return scope(() => {
      const [scale, beta] = partsOf((embed ?? fc)!.forward(condition), 2) as [Tensor, Tensor];
      const gamma = embed ? scale : scale.add(1);
      return sampleAffine({ x: this.bn.forward(x), gamma, beta }, axis, "ConditionalBatchNorm");
    });
  }
}
