import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { layerNorm } from "../../autograd/ops/layer_norm.js";
import { checkBoolean, checkNonNegative, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";

export interface LayerNormOptions extends ActivationOption, PlacementOptions {
  readonly eps?: number;
  readonly elementwiseAffine?: boolean;
  /** False leaves the bias out and keeps the weight. */
  readonly bias?: boolean;
}

/** Layer normalization over the last axes, whose lengths are `normalizedShape`. */
export class LayerNorm extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;
  private readonly activation: NormActivation | null;

  constructor(normalizedShape: number | Shape, options?: LayerNormOptions) {
    super();
    this.normalizedShape = checkNormalizedShape("LayerNorm", normalizedShape);
    const o = readOptions("LayerNorm", options, {
      eps: family.LayerNorm.eps as number,
      elementwiseAffine: family.LayerNorm.affine as boolean,
      bias: true,
      ...activationDefault,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = checkNonNegative("LayerNorm: eps", o.eps);
    this.activation = readActivation("LayerNorm", o.activation);
    const affine = checkBoolean("LayerNorm: elementwiseAffine", o.elementwiseAffine);
    const withBias = checkBoolean("LayerNorm: bias", o.bias);
    this.weight = affine ? new Parameter(ones(this.normalizedShape, { dtype })) : null;
    this.bias = affine && withBias ? new Parameter(zeros(this.normalizedShape, { dtype })) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, normalizedShape, eps, activation } = this;
    return layerNorm({ x, weight, bias }, { normalizedShape, eps, activation });
  }
}
