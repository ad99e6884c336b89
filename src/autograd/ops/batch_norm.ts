import type { NormActivation } from "../../kernels/kernel_set.js";
import { checkBatchStatistics, checkPerChannel } from "../../norm/checks.js";
import type { VarianceConvention } from "../../norm/moments.js";
import { batchView, statisticSize } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { defineNorm, type NormInputs, type NormStatistics } from "./fused_norm.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

export interface BatchNormOptions {
  /** The channel axis; 1 for [N, C, ...], -1 for channels last. */
  readonly axis: number;
  readonly eps: number;
  /** What x is divided by: M2 / n (default) or M2 / (n - 1). The statistics that come back are biased all the same. */
  readonly variance?: VarianceConvention;
  /** Takes a channel of one value, whose variance is 0 and whose output is therefore the bias. Default false: refused. */
  readonly allowLone?: boolean;
  /** What y goes through in the same pass. */
  readonly activation?: NormActivation | null;
}

const training = defineNorm("batch_norm");
const evaluation = defineNorm("batch_norm_eval");

/**
 * Batch normalization with the batch's own statistics: one mean and one biased variance for each channel, over all
 * other axes. Returns them beside the output, for running statistics; the caller disposes them.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`; weight and bias [C], each optional; statistics [C].
 * Units, saves: see fused_norm.ts.
 * Throws: ShapeError if a channel has no value, or has one and allowLone is not set.
 * Source: Ioffe & Szegedy 2015, arXiv:1502.03167.
 */
export function batchNorm(
  inputs: NormInputs,
  { axis, eps, variance = "biased", allowLone = false, activation = null }: BatchNormOptions,
): { out: Tensor; extra: NormStatistics } {
  const on = batchView(inputs.x.shape, axis);
  if (!allowLone || statisticSize(on) !== 1) checkBatchStatistics("Batch normalization", inputs.x.shape, on);
  const affineShape = [on.view.channels];
  if (variance === "biased") return training.run(inputs, { on, eps, affineShape, activation });
  const scaled = byUnbiasedVariance(inputs, eps, statisticSize(on), affineShape);
  return training.run(scaled.inputs, { on, eps: scaled.eps, affineShape, activation });
}

/**
 * The same with given statistics, constants in backward: dx = weight * rho * dy. Also how instance normalization
 * evaluates with running statistics.
 *
 * Shapes: as above; mean and variance [C], float32 or float64. An empty input gives an empty output.
 */
export function batchNormEval(
  inputs: NormInputs,
  statistics: { readonly mean: Tensor; readonly variance: Tensor },
  { axis, eps, activation = null }: BatchNormOptions,
): Tensor {
  const on = batchView(inputs.x.shape, axis);
  const { channels } = on.view;
  checkPerChannel("The running mean", statistics.mean.shape, channels);
  checkPerChannel("The running variance", statistics.variance.shape, channels);
  return evaluation(inputs, { on, eps, affineShape: [channels], given: statistics, activation });
}
