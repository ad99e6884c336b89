import type { Tensor } from "../../autograd/index.js";
import { addNorm } from "../../autograd/ops/add_norm.js";
import { checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { LayerNormBase, type LayerNormOptions } from "./layer_norm.js";
import { RMSNormBase, type RMSNormOptions } from "./rms_norm.js";

/** What a residual block goes on with: y, the norm of the sum, and the sum, which the next block adds to. */
export interface AddNormResult {
  readonly y: Tensor;
  readonly sum: Tensor;
}

/** The layers' forward: y alone. */
function withoutSum({ y, sum }: AddNormResult): Tensor {
  sum.dispose();
  return y;
}

/** Layer normalization of x + residual, in one pass over memory. */
export class AddLayerNorm extends LayerNormBase {
  constructor(normalizedShape: number | Shape, options?: LayerNormOptions) {
    super("AddLayerNorm", normalizedShape, options);
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    return withoutSum(this.run(x, residual));
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
export class AddRMSNorm extends RMSNormBase {
  constructor(normalizedShape: number | Shape, options?: RMSNormOptions) {
    super("AddRMSNorm", normalizedShape, options);
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    return withoutSum(this.run(x, residual));
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
