import type { Tensor } from "../../autograd/index.js";
import { scaleGradient } from "../../autograd/ops/scale_gradient.js";
import { checkChoice } from "../../base/options.js";
import type { VarianceConvention } from "../../norm/moments.js";

/** Where frameworks differ on the same layer. The defaults are PyTorch's. */
export interface ConventionOptions {
  /** What a training batch is divided by: M2 / n ("biased", default) or M2 / (n - 1). */
  readonly normalizingVariance?: VarianceConvention;
  /** What enters the running variance: M2 / (n - 1) ("unbiased", default) or M2 / n. */
  readonly runningVariance?: VarianceConvention;
  /** Whether gradients of weight and bias are sums over the batch (default) or means: those sums / N, N = x.shape[0]. */
  readonly parameterGradients?: GradientConvention;
}

export type GradientConvention = "sum" | "mean";

export const conventionDefaults = {
  normalizingVariance: "biased" as VarianceConvention,
  runningVariance: "unbiased" as VarianceConvention,
  parameterGradients: "sum" as GradientConvention,
};

export function checkConventions(layer: string, o: Required<ConventionOptions>): Required<ConventionOptions> {
  return {
    normalizingVariance: checkChoice(`${layer}: normalizingVariance`, o.normalizingVariance, ["biased", "unbiased"]),
    runningVariance: checkChoice(`${layer}: runningVariance`, o.runningVariance, ["biased", "unbiased"]),
    parameterGradients: checkGradients(layer, o.parameterGradients),
  };
}

export const checkGradients = (layer: string, value: unknown): GradientConvention =>
  checkChoice(`${layer}: parameterGradients`, value, ["sum", "mean"]);

/** A parameter as the op takes it: of the op's shape, its gradient a sum or a mean over `samples`. */
export function asOperand<T extends Tensor | null>(
  parameter: T,
  shape: readonly number[],
  convention: GradientConvention,
  samples: number,
): T {
  if (!parameter) return parameter;
  // No samples, no gradient: 0, not 0 / 0.
  const share = 1 / Math.max(1, samples);
  const flat = parameter.rank === shape.length ? parameter : parameter.reshape(shape);
  return scaleGradient(flat, convention === "mean" ? share : 1) as T;
}
