import { ShapeError } from "../base/errors.js";
import { formatShape, normalizeAxis, numberOfElements, type Shape, sameShape } from "../base/shape.js";

/**
 * Column view [batch, outer, channels, inner]: one statistic for each batch entry and each `merge` neighbouring channels,
 * over outer, those channels, and inner. Statistics have batch * channels / merge elements; the affine has `channels`.
 *
 * BatchNorm channels-first [N, C, S]: batch 1, outer N, inner S. BatchNorm channels-last: batch 1, outer N*S, inner 1.
 * InstanceNorm channels-last: batch N, outer S, inner 1. GroupNorm channels-last: the same with merge = C / groups.
 */
export interface ColumnView {
  readonly batch: number;
  readonly outer: number;
  readonly channels: number;
  readonly inner: number;
  /** Neighbouring channels that share one statistic; 1 for batch norm. Divides channels. */
  readonly merge: number;
}

/**
 * Row view [rows, size]: one statistic for each row. Statistics have `rows` elements. The affine has
 * groups * size / inner elements: element d of row r has affine index (r % groups) * (size / inner) + floor(d / inner).
 *
 * LayerNorm and RMSNorm: groups 1, inner 1. GroupNorm channels-first: rows N*G, groups G, size C/G*S, inner S.
 * InstanceNorm channels-first: GroupNorm with G = C.
 */
export interface RowView {
  readonly rows: number;
  readonly size: number;
  readonly groups: number;
  readonly inner: number;
}

/** Which kernel a normalization runs on, and the canonical view of x that it gets. */
export interface ColumnCase {
  readonly kernel: "column";
  readonly view: ColumnView;
}
export interface RowCase {
  readonly kernel: "row";
  readonly view: RowView;
}
export type NormCase = ColumnCase | RowCase;

/** Statistics that span everything but `axis`: batch normalization. */
export function batchView(shape: Shape, axis = 1): ColumnCase {
  const a = normalizeAxis(axis, shape.length, "The channel axis");
  return column(1, shape.slice(0, a), shape[a]!, shape.slice(a + 1), 1);
}

/**
 * Statistics for each sample (axis 0) and each of `groups` runs of neighbouring channels: group normalization.
 * Channels that follow the batch axis at once make rows of memory; channels further back make columns.
 */
export function groupView(shape: Shape, groups: number, axis = 1): NormCase {
  const columns = groupColumns(shape, groups, axis);
  if (normalizeAxis(axis, shape.length, "The channel axis") > 1) return columns;
  const { batch, channels, inner, merge } = columns.view;
  return { kernel: "row", view: { rows: (batch * channels) / merge, size: merge * inner, groups, inner } };
}

/** The same statistics as columns wherever the channels lie, for what is done on columns only. */
export function groupColumns(shape: Shape, groups: number, axis = 1): ColumnCase {
  const a = channelAxisBehindBatch(shape, axis);
  const channels = shape[a]!;
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw new ShapeError({
      rule: "The number of groups must be at least 1 and divide the number of channels",
      got: `${groups} groups for ${channels} channels of ${formatShape(shape)}`,
      ...(groups >= 1 && channels > 0 ? { fix: `These divide ${channels}: ${divisors(channels).join(", ")}` } : {}),
    });
  }
  return column(shape[0]!, shape.slice(1, a), channels, shape.slice(a + 1), channels / groups);
}

/**
 * Statistics for each sample, each of `groups` runs of neighbouring channels, and each position: over the channels of a
 * group alone. Channels lie on axis 1. The view's channels are the positions, so its affine is not that of the layer.
 */
export function positionView(shape: Shape, groups: number): ColumnCase {
  const { batch, channels, inner, merge } = groupColumns(shape, groups).view;
  return {
    kernel: "column",
    view: { batch: (batch * channels) / merge, outer: merge, channels: inner, inner: 1, merge: 1 },
  };
}

/** Statistics for each sample and each channel: group normalization with one channel to a group. */
export function instanceView(shape: Shape, axis = 1): NormCase {
  return groupView(shape, shape[channelAxisBehindBatch(shape, axis)]!, axis);
}

/** Statistics over the last axes, whose lengths are `normalizedShape`: layer and root-mean-square normalization. */
export function layerView(shape: Shape, normalizedShape: Shape): RowCase {
  const lead = shape.length - normalizedShape.length;
  if (normalizedShape.length === 0 || lead < 0 || !sameShape(shape.slice(lead), normalizedShape)) {
    throw new ShapeError({
      rule: `The last axes of the input must have the lengths of normalizedShape ${formatShape(normalizedShape)}`,
      got: `an input of shape ${formatShape(shape)}`,
      fix: "Give normalizedShape the lengths of the input's last axes, the ones that statistics span",
    });
  }
  const size = numberOfElements(normalizedShape);
  return { kernel: "row", view: { rows: numberOfElements(shape.slice(0, lead)), size, groups: 1, inner: 1 } };
}

/** How many statistics (means, variances) a view has. */
export const statisticCount = ({ kernel, view }: NormCase): number =>
  kernel === "row" ? view.rows : (view.batch * view.channels) / view.merge;

/** How many elements share one statistic. */
export const statisticSize = ({ kernel, view }: NormCase): number =>
  kernel === "row" ? view.size : view.outer * view.merge * view.inner;

function column(batch: number, before: Shape, channels: number, after: Shape, merge: number): ColumnCase {
  const view = { batch, outer: numberOfElements(before), channels, inner: numberOfElements(after), merge };
  return { kernel: "column", view };
}

function channelAxisBehindBatch(shape: Shape, axis: number): number {
  if (shape.length < 2) {
    throw new ShapeError({
      rule: "Statistics for each sample need an input [N, C, ...] of rank 2 or more",
      got: formatShape(shape),
    });
  }
  const a = normalizeAxis(axis, shape.length, "The channel axis");
  if (a === 0) {
    throw new ShapeError({
      rule: "Axis 0 is the batch, so channels must lie on a later axis",
      got: `axis ${axis} for an input of shape ${formatShape(shape)}`,
    });
  }
  return a;
}

export function divisors(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);
}
