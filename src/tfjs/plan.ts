import type { Tensor } from "@tensorflow/tfjs-core";
import { normalizeAxes, type Shape } from "../base/shape.js";
import { batchView, groupView, layerView, type NormCase } from "../norm/views.js";

/** What a layer computes on an input of one shape, said once for Evenkeel's kernels and for TensorFlow.js's ops. */
export interface NormPlan {
  /** The order of x's axes that `on` is a view of; null for the order in which they lie. */
  readonly order: readonly number[] | null;
  readonly on: NormCase;
  /** Shape of gamma and beta beside that view. */
  readonly affineShape: Shape;
  readonly eps: number;
  /** False: divides by the root mean square and subtracts nothing. */
  readonly centred: boolean;
}

/** True (bool) at positions that count: x's shape without the channel axis. */
export interface Mask {
  readonly positions: Tensor;
  readonly axis: number;
}

export interface NormRequest {
  /** float32. */
  readonly x: Tensor;
  readonly gamma: Tensor | null;
  readonly beta: Tensor | null;
  readonly plan: NormPlan;
  /** Statistics to use instead of x's own, flat; constants in the gradient. */
  readonly given?: { readonly mean: Tensor; readonly variance: Tensor } | null;
  /** The positions that count in the statistics; null where all do. */
  readonly mask?: Mask | null;
}

export interface Normalized {
  readonly y: Tensor;
  /** The statistics that were used, flat float32; the mean is null without centring and where statistics were given. */
  readonly mean: Tensor | null;
  readonly variance: Tensor;
}

/** One statistic for each channel, over all axes but `axis`. */
export function batchPlan(shape: Shape, axis: number, eps: number): NormPlan {
  const on = batchView(shape, axis);
  return { order: null, on, affineShape: [on.view.channels], eps, centred: true };
}

/** One statistic for each sample and each of `groups` runs of channels. */
export function groupPlan(shape: Shape, axis: number, groups: number, eps: number): NormPlan {
  const channels = shape.at(axis)!;
  return { order: null, on: groupView(shape, groups, axis), affineShape: [channels], eps, centred: true };
}

/** One statistic for each position of the axes that are not among `axes`, over those that are. */
export function axesPlan(shape: Shape, axes: readonly number[], eps: number, centred: boolean): NormPlan {
  const spanned = normalizeAxes(axes, shape.length);
  const kept = shape.map((_, i) => i).filter((i) => !spanned.includes(i));
  const order = [...kept, ...spanned];
  const affineShape = spanned.map((a) => shape[a]!);
  const on = layerView(
    order.map((a) => shape[a]!),
    affineShape,
  );
  return { order: order.every((a, i) => a === i) ? null : order, on, affineShape, eps, centred };
}

/** The order that takes axes in `order` back to where they came from. */
export function inverseOrder(order: readonly number[]): number[] {
  const inverse = new Array<number>(order.length);
  for (const [i, a] of order.entries()) inverse[a] = i;
  return inverse;
}
