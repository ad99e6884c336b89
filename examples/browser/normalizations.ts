import { nn } from "evenkeel";
import type { NormalizationId } from "./normalization_choices.js";

const CHANNELS_A_GROUP = 4;

/** A layer for [N, channels, size, size]; null where nothing stands between convolution and ReLU. */
export type MakeNormalization = ((channels: number, size: number) => nn.Module) | null;

export const normalizations: Readonly<Record<NormalizationId, MakeNormalization>> = {
  batch: (channels) => new nn.BatchNorm2d(channels),
  group: (channels) => new nn.GroupNorm(channels / CHANNELS_A_GROUP, channels),
  layer: (channels) => new nn.GroupNorm(1, channels),
  position: (channels) => new nn.LayerNorm2d(channels),
  instance: (channels) => new nn.InstanceNorm2d(channels, { affine: true }),
  rms: (channels, size) => new nn.RMSNorm([channels, size, size]),
  response: (channels) => new nn.FilterResponseNorm(channels),
  dyt: (channels, size) => new nn.DyT([channels, size, size]),
  none: null,
};
