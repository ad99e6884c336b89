import { full, type Tensor } from "../../autograd/index.js";
import { rmsNorm } from "../../autograd/ops/rms_norm.js";
import { checkBoolean, checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";

export interface RMSNormOptions extends PlacementOptions {
  /** null (default): the machine epsilon of the input's type. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
  /**
   * What is added to the weight: y = (weightOffset + weight) * xhat. The weight starts at 1 - weightOffset, so that y
   * starts as xhat. Default 0; Gemma has 1.
   */
  readonly weightOffset?: number;
}

/** Weight and eps of root-mean-square normalization, under the name of the layer that has them. */
export abstract class RMSNormBase extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  eps: number | null;
  readonly weightOffset: number;

  constructor(
    layer: "RMSNorm" | "AddRMSNorm",
    normalizedShape: number | Shape,
    options?: RMSNormOptions,
    /** Options that this layer has beside these, with their defaults; it reads them itself. */
    own: object = {},
  ) {
    super();
    this.normalizedShape = checkNormalizedShape(layer, normalizedShape);
    const o = readOptions(layer, options, {
      eps: family[layer].eps as number | null,
      elementwiseAffine: family[layer].affine as boolean,
      weightOffset: 0,
      ...placementDefaults,
      ...own,
    });
    const placed = readPlacement(o);
    this.eps = o.eps === null ? null : checkNonNegative(`${layer}: eps`, o.eps);
    this.weightOffset = checkNumber(`${layer}: weightOffset`, o.weightOffset, "a finite number", Number.isFinite);
    const affine = checkBoolean(`${layer}: elementwiseAffine`, o.elementwiseAffine);
    this.weight = affine ? affineParameter(full(this.normalizedShape, 1 - this.weightOffset, placed)) : null;
  }
}

/** Root-mean-square normalization over the last axes, whose lengths are `normalizedShape`. Nothing is subtracted. */
export class RMSNorm extends RMSNormBase {
  private readonly activation: NormActivation | null;

  constructor(normalizedShape: number | Shape, options?: RMSNormOptions & ActivationOption) {
    super("RMSNorm", normalizedShape, options, activationDefault);
    this.activation = readActivation("RMSNorm", options?.activation ?? null);
  }

  override forward(x: Tensor): Tensor {
    const { weight, normalizedShape, eps, weightOffset, activation } = this;
    return rmsNorm({ x, weight }, { normalizedShape, eps, weightOffset, activation });
  }
}
