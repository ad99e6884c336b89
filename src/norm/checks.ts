import { ShapeError } from "../base/errors.js";
import { formatShape, normalizeAxis, type Shape, sameShape } from "../base/shape.js";
import { divisors, type NormCase, statisticSize } from "./views.js";

/** Rank of the input: BatchNorm1d takes 2 or 3, and so on. */
export function checkRank(layer: string, shape: Shape, ranks: readonly number[], layouts: string): void {
  if (ranks.includes(shape.length)) return;
  throw new ShapeError({
    rule: `${layer} takes an input of rank ${ranks.join(" or ")} (${layouts})`,
    got: `rank ${shape.length}, shape ${formatShape(shape)}`,
  });
}

/** The input must have as many channels as the layer was made for. */
export function checkChannels(layer: string, shape: Shape, axis: number, channels: number): void {
  const a = normalizeAxis(axis, shape.length, `${layer}: the channel axis`);
  if (shape[a] === channels) return;
  const elsewhere = shape.indexOf(channels, 1);
  throw new ShapeError({
    rule: `${layer} was made for ${channels} channels on axis ${axis}`,
    got: `${shape[a]} in an input of shape ${formatShape(shape)}`,
    fix:
      elsewhere < 0 ? `Make the layer for ${shape[a]} channels` : `Axis ${elsewhere} has ${channels}: name it as axis`,
  });
}

/** The input must have, behind its batch axis, the features that the layer was made for. */
export function checkFeatures(layer: string, shape: Shape, features: Shape): void {
  if (shape.length === features.length + 1 && sameShape(shape.slice(1), features)) return;
  throw new ShapeError({
    rule: `${layer} was made for an input [N, ${features.join(", ")}], with statistics for each feature`,
    got: formatShape(shape),
  });
}

/** Groups of channels must be equal in size; said at construction, before any input. */
export function checkGroups(layer: string, groups: number, channels: number): void {
  if (channels % groups === 0) return;
  throw new ShapeError({
    rule: `${layer}: the number of groups must divide the number of channels`,
    got: `${groups} groups for ${channels} channels`,
    fix: `These divide ${channels}: ${divisors(channels).join(", ")}`,
  });
}

/**
 * Batch statistics need two values for each channel. With one, the variance is 0, the output is the bias whatever the
 * input, and the unbiased running variance is 0/0; with none the mean is 0/0 as well. Evaluation needs no such check.
 */
export function checkBatchStatistics(layer: string, shape: Shape, batch: NormCase): void {
  const values = statisticSize(batch);
  if (values >= 2) return;
  if (values === 0) {
    throw new ShapeError({
      rule: `${layer} cannot take statistics from an empty batch`,
      got: `an input of shape ${formatShape(shape)}`,
      fix: "Skip empty batches in training, or call eval(), which uses the running statistics",
    });
  }
  throw new ShapeError({
    rule: `${layer} takes batch statistics from more than one value for each channel`,
    got: `one, in an input of shape ${formatShape(shape)}`,
    fix: "Use a larger batch (dropLast: true drops a last batch of one sample), call eval(), or use group normalization",
  });
}

/** Statistics of one sample need two values for each channel, and running ones a sample to take them from. */
export function checkInstanceStatistics(layer: string, shape: Shape, instance: NormCase, tracked: boolean): void {
  if (statisticSize(instance) === 1) {
    throw new ShapeError({
      rule: `${layer} needs more than one value for each sample and channel`,
      got: `one, in an input of shape ${formatShape(shape)}`,
      fix: "Normalize before the spatial axes shrink to one value, or use layer normalization",
    });
  }
  if (tracked && (statisticSize(instance) === 0 || shape[0] === 0)) {
    throw new ShapeError({
      rule: `${layer} with running statistics needs samples to take them from in training`,
      got: `an empty input of shape ${formatShape(shape)}`,
      fix: "Skip empty batches in training, or call eval()",
    });
  }
}

/** Running statistics must have one value for each channel. */
export function checkPerChannel(what: string, shape: Shape, channels: number): void {
  if (shape.length === 1 && shape[0] === channels) return;
  throw new ShapeError({
    rule: `${what} must have one value for each channel, shape [${channels}]`,
    got: formatShape(shape),
  });
}

/** The lengths of the last axes, as a list or, for one axis, as a number. */
export function checkNormalizedShape(layer: string, value: unknown): Shape {
  const shape = typeof value === "number" ? [value] : value;
  if (Array.isArray(shape) && shape.length > 0 && shape.every((d) => Number.isInteger(d) && d > 0)) return [...shape];
  throw new ShapeError({
    rule: `${layer}: normalizedShape must be a whole number of at least 1, or a list of such`,
    got: JSON.stringify(value) ?? String(value),
  });
}
