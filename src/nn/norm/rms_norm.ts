import { ones, type Tensor } from "../../autograd/index.js";
import { rmsNorm } from "../../autograd/ops/rms_norm.js";
import { checkBoolean, checkNonNegative, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";

export interface RMSNormOptions extends PlacementOptions {
  /** null (default): the machine epsilon of the input's type. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
}

/** Root-mean-square normalization over the last axes, whose lengths are `normalizedShape`. Nothing is subtracted. */
export class RMSNorm extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  eps: number | null;

  constructor(normalizedShape: number | Shape, options?: RMSNormOptions) {
    super();
    this.normalizedShape = checkNormalizedShape("RMSNorm", normalizedShape);
    const o = readOptions("RMSNorm", options, {
      eps: family.RMSNorm.eps as number | null,
      elementwiseAffine: family.RMSNorm.affine as boolean,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = o.eps === null ? null : checkNonNegative("RMSNorm: eps", o.eps);
    const affine = checkBoolean("RMSNorm: elementwiseAffine", o.elementwiseAffine);
    this.weight = affine ? new Parameter(ones(this.normalizedShape, { dtype })) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, normalizedShape, eps } = this;
    return rmsNorm({ x, weight }, { normalizedShape, eps });
  }
}
