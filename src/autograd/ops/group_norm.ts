import { normalizeAxis, numberOfElements } from "../../base/shape.js";
import type { NormActivation } from "../../kernels/kernel_set.js";
import { groupView, positionView, type RowCase } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { activation as activationOf } from "./activation.js";
import { channelAffine } from "./channel_affine.js";
import { defineNorm, type NormInputs } from "./fused_norm.js";

export interface GroupNormOptions {
  readonly groups: number;
  /** The channel axis; 1 for [N, C, ...], -1 for channels last. */
  readonly axis: number;
  readonly eps: number;
  /** What y goes through in the same pass. */
  readonly activation?: NormActivation | null;
}

const op = defineNorm("group_norm");
const positions = defineNorm("position_norm");

/**
 * Group normalization: one mean and one biased variance for each sample and each run of C / groups channels. groups = 1
 * is layer normalization over channels and space, groups = C is instance normalization. A group of one value has
 * variance 0, so its output is the bias.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; weight and bias [C], each optional.
 * Units, saves: see fused_norm.ts.
 * Throws: ShapeError if x has rank < 2, or if groups does not divide C.
 * Source: Wu & He 2018, arXiv:1803.08494.
 */
export function groupNorm(inputs: NormInputs, { groups, axis, eps, activation = null }: GroupNormOptions): Tensor {
  const { shape } = inputs.x;
  const on = groupView(shape, groups, axis);
  return op(inputs, { on, eps, affineShape: [shape[normalizeAxis(axis, shape.length)]!], activation });
}

/** The same, channels on axis 1, with a weight and a bias for each feature: both [C * S], S the product of what follows C. */
export function groupNormPerFeature(
  inputs: NormInputs,
  { groups, eps, activation = null }: Omit<GroupNormOptions, "axis">,
): Tensor {
  const { shape } = inputs.x;
  const { view } = groupView(shape, groups) as RowCase;
  return op(inputs, {
    on: { kernel: "row", view: { ...view, inner: 1 } },
    eps,
    affineShape: [numberOfElements(shape.slice(1))],
    activation,
  });
}

/**
 * Group normalization at each position: one mean and one biased variance for each sample, each run of C / groups
 * channels, and each position, over the channels of the run alone. groups = C leaves the bias.
 *
 * Shapes: x and y [N, C, ...]; weight and bias [C], or [C * S] with S positions: one for each feature.
 * Source: the group normalization of DLL; with groups = 1 that of ConvNeXt's channels-first layers.
 */
export function groupNormPerPosition(
  { x, weight, bias }: NormInputs,
  { groups, eps, activation = null }: Omit<GroupNormOptions, "axis">,
): Tensor {
  const xhat = positions({ x, weight: null, bias: null }, { on: positionView(x.shape, groups), eps, affineShape: [] });
  const channels = x.shape[1]!;
  const features = numberOfElements(x.shape.slice(1));
  const perFeature = (weight ?? bias)?.size === features && features !== channels;
  const z = perFeature
    ? channelAffine({ x: xhat.reshape([-1, features]), weight, bias }).reshape(x.shape)
    : channelAffine({ x: xhat, weight, bias });
  // The affine is not the kernel's here, so neither is what follows it.
  return activation ? activationOf(z, activation.op, activation.alpha) : z;
}
