import type { Tensor } from "../../autograd/index.js";
import type { NormStatistics } from "../../autograd/ops/fused_norm.js";
import { kernels } from "../../kernels/dispatch.js";
import { onDevice } from "../../memory/device.js";
import { heap, type Slot } from "../../memory/heap.js";
import type { Storage } from "../../memory/storage.js";
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

/** A batch by its storages, which are still there when the tensors are not: in a captured step that is repeated. */
export interface BatchSlots {
  readonly mean: Storage;
  readonly variance: Storage;
  readonly repeat: number;
  readonly values: number;
}

export const slotsOf = ({ statistics, repeat, values }: Batch): BatchSlots => ({
  mean: statistics.mean!.storage,
  variance: statistics.variance.storage,
  repeat,
  values,
});

/** running = (1 - weight) * running + weight * batch, with the variance of the batch as `convention` says. */
export function moveRunning(
  running: Running,
  { mean, variance, repeat, values }: BatchSlots,
  weight: number,
  convention: VarianceConvention = "unbiased",
): void {
  move(running.mean, mean, repeat, weight, 1);
  move(running.variance, variance, repeat, weight, convention === "unbiased" ? besselFactor(values) : 1);
}

function move(to: Tensor, from: Storage, repeat: number, weight: number, scale: number): void {
  aboutToMove(to);
  onDevice(to.device, () => kernels.updateRunning(to.storage, from, repeat, weight, scale));
  to.storage.version++;
}

/** Whether every statistic of the batch is a finite number; one NaN or Inf in the input makes one of them not. */
export const areFinite = (...statistics: readonly Slot[]): boolean =>
  statistics.every((slot) => heap.view(slot).every(Number.isFinite));

export function checkRunning(running: Running, channels: number): void {
  checkPerChannel("The running mean", running.mean.shape, channels);
  checkPerChannel("The running variance", running.variance.shape, channels);
}

/** Lets go of a batch's statistics once nobody needs them; what backward needs, the tape holds by handles of its own. */
export function disposeStatistics({ mean, variance }: NormStatistics): void {
  mean?.dispose();
  variance.dispose();
}
