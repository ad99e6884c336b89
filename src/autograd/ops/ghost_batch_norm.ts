import { ShapeError } from "../../base/errors.js";
import { formatShape, normalizeAxis } from "../../base/shape.js";
import { checkBatchStatistics } from "../../norm/checks.js";
import { batchView, groupColumns, statisticSize } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import type { BatchNormOptions } from "./batch_norm.js";
import { defineNorm, type NormInputs, type NormStatistics } from "./fused_norm.js";
import { concat, narrow } from "./movement.js";
import { byUnbiasedVariance } from "./unbiased_variance.js";

export interface GhostBatchNormOptions extends Omit<BatchNormOptions, "allowLone" | "activation"> {
  /** Samples in a ghost batch. */
  readonly size: number;
}

/** Statistics of ghost batches of one size, one ghost after another: [ghosts * C]. */
export interface Ghosts {
  readonly statistics: NormStatistics;
  readonly ghosts: number;
  /** Values behind each statistic. */
  readonly values: number;
}

const op = defineNorm("ghost_batch_norm");

/** All ghosts of one size in one kernel call: a column view with a batch entry for each ghost. */
function equalGhosts(
  { x, weight, bias }: NormInputs,
  size: number,
  options: Omit<BatchNormOptions, "allowLone" | "activation">,
) {
  const { axis, eps, variance = "biased" } = options;
  const ghosts = x.shape[0]! / size;
  const a = normalizeAxis(axis, x.rank, "The channel axis");
  const channels = x.shape[a]!;
  const on = groupColumns([ghosts, size, ...x.shape.slice(1)], channels, a + 1);
  checkBatchStatistics("A ghost batch", [size, ...x.shape.slice(1)], on);
  const values = statisticSize(on);
  const affineShape = [channels];
  const inputs = { x, weight, bias };
  const scaled = variance === "biased" ? { inputs, eps } : byUnbiasedVariance(inputs, eps, values, affineShape);
  const { out, extra } = op.run(scaled.inputs, { on, eps: scaled.eps, affineShape });
  return { out, part: { statistics: extra, ghosts, values } };
}

/**
 * Batch normalization within each of the ghost batches that a batch of N samples falls into: `size` neighbouring samples
 * a ghost, and what is left in a last, smaller one. A last ghost with one value for each channel joins the one before.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`, which is not the batch axis; weight and bias [C], each optional.
 * Saves:  as fused_norm.ts, for each ghost size.
 * Throws: ShapeError if the channel axis is 0, or the batch has no second value for a channel.
 * Source: Hoffer, Hubara & Soudry 2017, arXiv:1705.08741.
 */
export function ghostBatchNorm(
  inputs: NormInputs,
  { size, ...options }: GhostBatchNormOptions,
): { out: Tensor; extra: Ghosts[] } {
  const { x } = inputs;
  const a = normalizeAxis(options.axis, x.rank, "The channel axis");
  if (a === 0) {
    throw new ShapeError({
      rule: "Ghost batches are taken along axis 0, so channels must lie on a later axis",
      got: `axis ${options.axis} for an input of shape ${formatShape(x.shape)}`,
    });
  }
  const samples = x.shape[0]!;
  if (x.size === 0) checkBatchStatistics("Ghost batch normalization", x.shape, batchView(x.shape, a));
  const valuesPerSample = x.size / (samples * x.shape[a]!);
  const whole = Math.floor(samples / size);
  const rest = samples - whole * size;
  const joins = rest > 0 && rest * valuesPerSample === 1 && whole > 0;
  const even = (joins ? whole - 1 : whole) * size;
  if (even === 0 || even === samples) {
    const { out, part } = equalGhosts(inputs, even === 0 ? samples : size, options);
    return { out, extra: [part] };
  }
  const first = equalGhosts({ ...inputs, x: narrow(x, 0, 0, even) }, size, options);
  const last = equalGhosts({ ...inputs, x: narrow(x, 0, even, samples - even) }, samples - even, options);
  return { out: concat([first.out, last.out]), extra: [first.part, last.part] };
}
