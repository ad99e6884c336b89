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
