import { full, type Tensor, zeros } from "../../autograd/index.js";
import { addNorm } from "../../autograd/ops/add_norm.js";
import { checkBoolean, checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";

/** What a residual block goes on with: y, the norm of the sum, and the sum, which the next block adds to. */
export interface AddNormResult {
  readonly y: Tensor;
  readonly sum: Tensor;
}

export interface AddLayerNormOptions extends PlacementOptions {
  readonly eps?: number;
  readonly elementwiseAffine?: boolean;
  /** False leaves the bias out and keeps the weight. */
  readonly bias?: boolean;
}

export interface AddRMSNormOptions extends PlacementOptions {
  /** null (default): the machine epsilon of the input's type. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
  /** What is added to the weight, which starts at 1 - weightOffset. Default 0. */
  readonly weightOffset?: number;
}

/** Layer normalization of x + residual, in one pass over memory. */
export class AddLayerNorm extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;

  constructor(normalizedShape: number | Shape, options?: AddLayerNormOptions) {
    super();
    this.normalizedShape = checkNormalizedShape("AddLayerNorm", normalizedShape);
    const o = readOptions("AddLayerNorm", options, {
      eps: family.AddLayerNorm.eps as number,
      elementwiseAffine: family.AddLayerNorm.affine as boolean,
      bias: true,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = checkNonNegative("AddLayerNorm: eps", o.eps);
    const affine = checkBoolean("AddLayerNorm: elementwiseAffine", o.elementwiseAffine);
    const withBias = checkBoolean("AddLayerNorm: bias", o.bias);
    this.weight = affine ? new Parameter(full(this.normalizedShape, 1, { dtype })) : null;
    this.bias = affine && withBias ? new Parameter(zeros(this.normalizedShape, { dtype })) : null;
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    const { y, sum } = this.run(x, residual);
    sum.dispose();
    return y;
  }

  /** [y, x + residual]. */
  forwardWithSum(x: Tensor, residual: Tensor): [Tensor, Tensor] {
    const { y, sum } = this.run(x, residual);
    return [y, sum];
  }

  private run(x: Tensor, residual: Tensor): AddNormResult {
    const { weight, bias, normalizedShape, eps } = this;
    return addNorm({ x, residual, weight, bias }, { normalizedShape, eps, centred: true });
  }
}

/** Root-mean-square normalization of x + residual, in one pass over memory. */
export class AddRMSNorm extends Module {
  readonly normalizedShape: Shape;
  weight: Parameter | null;
  eps: number | null;
  readonly weightOffset: number;

  constructor(normalizedShape: number | Shape, options?: AddRMSNormOptions) {
    super();
    this.normalizedShape = checkNormalizedShape("AddRMSNorm", normalizedShape);
    const o = readOptions("AddRMSNorm", options, {
      eps: family.AddRMSNorm.eps as number | null,
      elementwiseAffine: family.AddRMSNorm.affine as boolean,
      weightOffset: 0,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = o.eps === null ? null : checkNonNegative("AddRMSNorm: eps", o.eps);
    this.weightOffset = checkNumber("AddRMSNorm: weightOffset", o.weightOffset, "a finite number", Number.isFinite);
    const affine = checkBoolean("AddRMSNorm: elementwiseAffine", o.elementwiseAffine);
    this.weight = affine ? new Parameter(full(this.normalizedShape, 1 - this.weightOffset, { dtype })) : null;
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    const { y, sum } = this.run(x, residual);
    sum.dispose();
    return y;
  }

  /** [y, x + residual]. */
  forwardWithSum(x: Tensor, residual: Tensor): [Tensor, Tensor] {
    const { y, sum } = this.run(x, residual);
    return [y, sum];
  }

  private run(x: Tensor, residual: Tensor): AddNormResult {
    const { weight, normalizedShape, eps, weightOffset } = this;
    return addRmsNorm(x, residual, normalizedShape, { weight, eps, weightOffset });
  }
}

/** y = layer normalization of sum = x + residual over the last axes, whose lengths are `normalizedShape`. */
export function addLayerNorm(
  x: Tensor,
  residual: Tensor,
  normalizedShape: number | Shape,
  options?: { readonly weight?: Tensor | null; readonly bias?: Tensor | null; readonly eps?: number },
): AddNormResult {
  const none = { weight: null as Tensor | null, bias: null as Tensor | null };
  const o = readOptions("F.addLayerNorm", options, { ...none, eps: family.AddLayerNorm.eps as number });
  const shape = checkNormalizedShape("F.addLayerNorm", normalizedShape);
  const eps = checkNonNegative("F.addLayerNorm: eps", o.eps);
  return addNorm({ x, residual, weight: o.weight, bias: o.bias }, { normalizedShape: shape, eps, centred: true });
}

/** y = root-mean-square normalization of sum = x + residual; eps null means the machine epsilon of x's type. */
export function addRmsNorm(
  x: Tensor,
  residual: Tensor,
  normalizedShape: number | Shape,
  options?: {
    readonly weight?: Tensor | null;
    readonly eps?: number | null;
    /** Added to the weight. */
    readonly weightOffset?: number;
  },
): AddNormResult {
  const defaults = { weight: null as Tensor | null, eps: family.AddRMSNorm.eps as number | null, weightOffset: 0 };
  const o = readOptions("F.addRmsNorm", options, defaults);
  const shape = checkNormalizedShape("F.addRmsNorm", normalizedShape);
  const eps = o.eps === null ? null : checkNonNegative("F.addRmsNorm: eps", o.eps);
  checkNumber("F.addRmsNorm: weightOffset", o.weightOffset, "a finite number", Number.isFinite);
  const weight = o.weight && o.weightOffset !== 0 ? o.weight.add(o.weightOffset) : o.weight;
  return addNorm({ x, residual, weight, bias: null }, { normalizedShape: shape, eps, centred: false });
}
