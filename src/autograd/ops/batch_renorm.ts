import { kernels } from "../../kernels/dispatch.js";
import { scope } from "../../memory/scope.js";
import { checkBatchStatistics } from "../../norm/checks.js";
import { besselFactor } from "../../norm/moments.js";
import { batchView, statisticSize } from "../../norm/views.js";
import { Tensor } from "../tensor.js";
import type { BatchNormOptions } from "./batch_norm.js";
import { checkInputs, defineNorm, type NormInputs, type NormStatistics } from "./fused_norm.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

export interface BatchRenormOptions extends Omit<BatchNormOptions, "allowLone"> {
  /** Running statistics, [C]; constants. */
  readonly running: { readonly mean: Tensor; readonly variance: Tensor };
  /** r is kept in [1 / rMax, rMax], d in [-dMax, dMax]. */
  readonly rMax: number;
  readonly dMax: number;
}

const op = defineNorm("batch_renorm");

/** NaN stays, so that a batch with NaN shows it. */
const clip = (t: Tensor, low: number, high: number): Tensor => t.minimum(high).maximum(low);

/**
 * Batch renormalization: y = weight * (xhat * r + d) + bias, xhat by the batch's statistics, with
 * r = clip(sigma_batch / sigma, 1 / rMax, rMax), d = clip((mu_batch - mu) / sigma, -dMax, dMax), sigma = sqrt(var + eps).
 * Unclipped, y is what evaluation gives. r and d are constants in backward, so that this is batch normalization with the
 * weight weight * r and the bias weight * d + bias: dx by that weight, dweight = r * sum(dy * xhat) + d * sum(dy).
 *
 * Shapes: x and y [..., C, ...] with C on `axis`; weight and bias [C], each optional; statistics [C], of the batch.
 * Saves:  x, weight * r, mean, variance.
 * Throws: ShapeError if a channel has fewer than two values.
 * Source: Ioffe 2017, arXiv:1702.03275.
 */
export function batchRenorm(inputs: NormInputs, options: BatchRenormOptions): { out: Tensor; extra: NormStatistics } {
  return scope(() => renormalize(inputs, options));
}

function renormalize({ x, weight, bias }: NormInputs, options: BatchRenormOptions) {
  const { axis, eps, variance: convention = "biased" } = options;
  const on = batchView(x.shape, axis);
  checkBatchStatistics("Batch renormalization", x.shape, on);
  const { channels } = on.view;
  checkInputs("batch_renorm", { x, weight, bias }, [channels]);
  const mean = Tensor.empty([channels], "float64");
  const variance = Tensor.empty([channels], "float64");
  kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, on.view);

  const count = statisticSize(on);
  const affine = { x, ...renormAffine({ x, weight, bias }, { mean, variance, values: count }, options) };
  const scaled = convention === "biased" ? { inputs: affine, eps } : byUnbiasedVariance(affine, eps, count, [channels]);
  // The statistics are known, so what is left of batch normalization is the second pass over x.
  const y = Tensor.empty(x.shape, x.dtype);
  const slots = [x.storage, scaled.inputs.weight!.storage, scaled.inputs.bias!.storage, y.storage] as const;
  kernels.columnNormEval(...slots, { mean: mean.storage, variance: variance.storage }, on.view, scaled.eps);
  const computed = { y, statistics: { mean, variance } };
  return op.run(scaled.inputs, { on, eps: scaled.eps, affineShape: [channels], computed });
}

/**
 * weight * r and weight * d + bias, by which batch normalization is renormalization. r and d are constants.
 *
 * Shapes: [C] all; `moments` float64, its variance the biased one of `values` values.
 */
export function renormAffine(
  { x, weight, bias }: NormInputs,
  { mean, variance, values }: { readonly mean: Tensor; readonly variance: Tensor; readonly values: number },
  { eps, variance: convention = "biased", running, rMax, dMax }: Omit<BatchRenormOptions, "axis">,
): { weight: Tensor; bias: Tensor } {
  const scale = convention === "biased" ? 1 : besselFactor(values);
  const sigma = running.variance.detach().cast("float64").add(eps).sqrt();
  const away = mean.sub(running.mean.detach().cast("float64"));
  const rs = clip(variance.mul(scale).add(eps).sqrt().div(sigma), 1 / rMax, rMax).cast(x.dtype);
  const ds = clip(away.div(sigma), -dMax, dMax).cast(x.dtype);
  const shift = weight ? weight.mul(ds) : ds;
  return { weight: weight ? weight.mul(rs) : rs, bias: bias ? shift.add(bias) : shift };
}
