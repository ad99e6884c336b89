import { checkDevice, ones, type Tensor } from "../../autograd/index.js";
import { rmsNorm } from "../../autograd/ops/rms_norm.js";
import { checkDType, type DType } from "../../base/dtype.js";
import { checkBoolean, checkNonNegative, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";

export interface RMSNormOptions {
  /** null (default): the machine epsilon of the input's type. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
  readonly dtype?: DType;
  readonly device?: "cpu";
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
      dtype: "float32" as DType,
      device: "cpu" as const,
    });
    checkDevice(o.device);
    const dtype = checkDType(o.dtype);
    this.eps = o.eps === null ? null : checkNonNegative("RMSNorm: eps", o.eps);
    const affine = checkBoolean("RMSNorm: elementwiseAffine", o.elementwiseAffine);
    this.weight = affine ? new Parameter(ones(this.normalizedShape, { dtype })) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, normalizedShape, eps } = this;
    return rmsNorm({ x, weight }, { normalizedShape, eps });
  }
}
