import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { groupNorm, groupNormPerFeature, groupNormPerPosition } from "../../autograd/ops/group_norm.js";
import { OptionError } from "../../base/errors.js";
import { checkBoolean, checkChoice, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { numberOfElements, type Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkChannels, checkFeatures, checkGroups } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { asOperand, checkGradients, type GradientConvention } from "./conventions.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";
import { checkAxis } from "./running_norm.js";

export interface GroupNormOptions extends ActivationOption, PlacementOptions {
  readonly eps?: number;
  readonly affine?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
  /** What a statistic spans besides the channels of a group: all positions of a "sample" (default), or one "position". */
  readonly statistics?: "sample" | "position";
  /** Whether gradients of weight and bias are sums over the batch (default) or means over its N samples. */
  readonly parameterGradients?: GradientConvention;
}

/**
 * Group normalization of [N, C, ...]. numGroups 1 is layer normalization over all but N; numChannels, instance. With a
 * shape [C, ...] instead of a number of channels, the input is [N, C, ...] and each feature has a weight and a bias.
 */
export class GroupNorm extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;
  readonly axis: number;
  readonly numChannels: number;
  readonly featureShape: Shape;
  readonly statistics: "sample" | "position";
  readonly parameterGradients: GradientConvention;
  private readonly activation: NormActivation | null;

  constructor(
    readonly numGroups: number,
    numChannels: number | Shape,
    options?: GroupNormOptions,
  ) {
    super();
    checkPositiveInteger("GroupNorm: numGroups", numGroups);
    this.featureShape = (typeof numChannels === "object" ? [...numChannels] : [numChannels]).map((d) =>
      checkPositiveInteger("GroupNorm: numChannels", d),
    );
    this.numChannels = this.featureShape[0]!;
    checkGroups("GroupNorm", numGroups, this.numChannels);
    const o = readOptions("GroupNorm", options, {
      eps: family.GroupNorm.eps as number,
      affine: family.GroupNorm.affine as boolean,
      axis: 1,
      statistics: "sample" as "sample" | "position",
      parameterGradients: "sum" as GradientConvention,
      ...activationDefault,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative("GroupNorm: eps", o.eps);
    this.activation = readActivation("GroupNorm", o.activation);
    this.axis = checkAxis("GroupNorm", o.axis);
    this.statistics = checkChoice("GroupNorm: statistics", o.statistics, ["sample", "position"]);
    this.parameterGradients = checkGradients("GroupNorm", o.parameterGradients);
    if (this.axis !== 1 && (this.perFeature || this.statistics === "position")) {
      throw new OptionError({
        rule: "GroupNorm with statistics for each position, or with an affine for each feature, has its channels on axis 1",
        got: `axis ${this.axis}`,
        fix: "Permute the input to [N, C, ...]",
      });
    }
    const affine = checkBoolean("GroupNorm: affine", o.affine);
    this.weight = affine ? affineParameter(ones(this.featureShape, placed)) : null;
    this.bias = affine ? affineParameter(zeros(this.featureShape, placed)) : null;
  }

  /** Whether weight and bias are those of features rather than of channels. */
  get perFeature(): boolean {
    return this.featureShape.length > 1;
  }

  override forward(x: Tensor): Tensor {
    const { numGroups: groups, numChannels, axis, featureShape, parameterGradients: convention } = this;
    if (this.perFeature) checkFeatures("GroupNorm", x.shape, featureShape);
    else checkChannels("GroupNorm", x.shape, axis, numChannels);
    const flat = [numberOfElements(featureShape)];
    const operand = (p: Tensor | null) => asOperand(p, flat, convention, x.shape[0]!);
    const inputs = { x, weight: operand(this.weight), bias: operand(this.bias) };
    const options = { groups, eps: this.eps, activation: this.activation };
    if (this.statistics === "position") return groupNormPerPosition(inputs, options);
    return this.perFeature ? groupNormPerFeature(inputs, options) : groupNorm(inputs, { ...options, axis });
  }
}
