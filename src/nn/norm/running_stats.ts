import type { Tensor } from "../../autograd/index.js";
import type { NormStatistics } from "../../autograd/ops/fused_norm.js";
import { kernels } from "../../kernels/dispatch.js";
import { checkPerChannel } from "../../norm/checks.js";
import { besselFactor, type VarianceConvention } from "../../norm/moments.js";
import { aboutToMove } from "./moving_state.js";

export { noStatsUpdate, runningStatsMove } from "./moving_state.js";

/** Running statistics of a layer or of a caller of F, updated in place. */
export interface Running {
  readonly mean: Tensor;
  readonly variance: Tensor;
}

export interface Batch {
  /** Biased statistics of the batch: [C] for batch normalization, [N * C] for instance normalization. */
  readonly statistics: NormStatistics;
  /** How many samples the statistics hold one after another, to be averaged. */
  readonly repeat: number;
  /** How many values each statistic was taken from. */
  readonly values: number;
}

/** running = (1 - weight) * running + weight * batch, with the variance of the batch as `convention` says. */
export function moveRunning(
  running: Running,
  { statistics, repeat, values }: Batch,
  weight: number,
  convention: VarianceConvention = "unbiased",
): void {
  const moves = [
    [running.mean, statistics.mean!, 1],
    [running.variance, statistics.variance, convention === "unbiased" ? besselFactor(values) : 1],
  ] as const;
  for (const [to, from, scale] of moves) {
    aboutToMove(to);
    kernels.updateRunning(to.storage, from.storage, repeat, weight, scale);
    to.storage.version++;
  }
}

/** Whether every statistic of the batch is a finite number; one NaN or Inf in the input makes one of them not. */
export const isFiniteBatch = ({ mean, variance }: NormStatistics): boolean =>
  [mean, variance].every((t) => t === null || t.storage.view.every(Number.isFinite));

export function checkRunning(running: Running, channels: number): void {
  checkPerChannel("The running mean", running.mean.shape, channels);
  checkPerChannel("The running variance", running.variance.shape, channels);
}

/** Lets go of a batch's statistics once nobody needs them; what backward needs, the tape holds by handles of its own. */
export function disposeStatistics({ mean, variance }: NormStatistics): void {
  mean?.dispose();
  variance.dispose();
}
