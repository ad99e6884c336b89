import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { layerNorm } from "../../autograd/ops/layer_norm.js";
import { checkBoolean, checkNonNegative, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type ActivationOption, activationDefault, readActivation } from "./norm_activation.js";

export interface LayerNormOptions extends PlacementOptions {
  readonly eps?: number;
  readonly elementwiseAffine?: boolean;
  /** False leaves the bias out and keeps the weight. */
  readonly bias?: boolean;
}

/** Weight, bias and eps of layer normalization, under the name of the layer that has them. */
export abstract class LayerNormBase extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;

  constructor(
    layer: "LayerNorm" | "AddLayerNorm",
    normalizedShape: number | Shape,
    options?: LayerNormOptions,
    /** Options that this layer has beside these, with their defaults; it reads them itself. */
    own: object = {},
  ) {
    super();
    this.normalizedShape = checkNormalizedShape(layer, normalizedShape);
    const o = readOptions(layer, options, {
      eps: family[layer].eps as number,
      elementwiseAffine: family[layer].affine as boolean,
      bias: true,
      ...placementDefaults,
      ...own,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative(`${layer}: eps`, o.eps);
    const affine = checkBoolean(`${layer}: elementwiseAffine`, o.elementwiseAffine);
    const withBias = checkBoolean(`${layer}: bias`, o.bias);
    this.weight = affine ? affineParameter(ones(this.normalizedShape, placed)) : null;
    this.bias = affine && withBias ? affineParameter(zeros(this.normalizedShape, placed)) : null;
  }
}

/** Layer normalization over the last axes, whose lengths are `normalizedShape`. */
export class LayerNorm extends LayerNormBase {
  private readonly activation: NormActivation | null;

  constructor(normalizedShape: number | Shape, options?: LayerNormOptions & ActivationOption) {
    super("LayerNorm", normalizedShape, options, activationDefault);
    this.activation = readActivation("LayerNorm", options?.activation ?? null);
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, normalizedShape, eps, activation } = this;
    return layerNorm({ x, weight, bias }, { normalizedShape, eps, activation });
  }
}
