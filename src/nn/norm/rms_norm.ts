import { full, type Tensor } from "../../autograd/index.js";
import { rmsNorm } from "../../autograd/ops/rms_norm.js";
import { checkBoolean, checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";

export interface RMSNormOptions extends ActivationOption, PlacementOptions {
  /** null (default): the machine epsilon of the input's type. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
  /**
   * What is added to the weight: y = (weightOffset + weight) * xhat. The weight starts at 1 - weightOffset, so that y
   * starts as xhat. Default 0; Gemma has 1.
   */
  readonly weightOffset?: number;
}

/** Root-mean-square normalization over the last axes, whose lengths are `normalizedShape`. Nothing is subtracted. */
export class RMSNorm extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  eps: number | null;
  readonly weightOffset: number;
  private readonly activation: NormActivation | null;

  constructor(normalizedShape: number | Shape, options?: RMSNormOptions) {
    super();
    this.normalizedShape = checkNormalizedShape("RMSNorm", normalizedShape);
    const o = readOptions("RMSNorm", options, {
      eps: family.RMSNorm.eps as number | null,
      elementwiseAffine: family.RMSNorm.affine as boolean,
      weightOffset: 0,
      ...activationDefault,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = o.eps === null ? null : checkNonNegative("RMSNorm: eps", o.eps);
    this.weightOffset = checkNumber("RMSNorm: weightOffset", o.weightOffset, "a finite number", Number.isFinite);
    this.activation = readActivation("RMSNorm", o.activation);
    const affine = checkBoolean("RMSNorm: elementwiseAffine", o.elementwiseAffine);
    this.weight = affine ? new Parameter(full(this.normalizedShape, 1 - this.weightOffset, { dtype })) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, normalizedShape, eps, weightOffset, activation } = this;
    return rmsNorm({ x, weight }, { normalizedShape, eps, weightOffset, activation });
  }
}
