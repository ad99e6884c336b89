import type { ImageSplits } from "../data/browser.js";
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Flatten,
  GroupNorm,
  InstanceNorm2d,
  LayerNorm,
  Linear,
  MaxPool2d,
  type Module,
  ReLU,
  RMSNorm,
  Sequential,
} from "../nn/index.js";

/** What `--norm` takes. Shapes: input and output [N, channels, size, size]. */
export const norms = {
  none: null,
  batch: (channels: number): Module => new BatchNorm2d(channels),
  group: (channels: number): Module => new GroupNorm(channels / 4, channels),
  layer: (channels: number, size: number): Module => new LayerNorm([channels, size, size]),
  instance: (channels: number): Module => new InstanceNorm2d(channels, { affine: true }),
  rms: (channels: number, size: number): Module => new RMSNorm([channels, size, size]),
} as const;

export type NormKind = keyof typeof norms;
export const normKinds = Object.keys(norms) as NormKind[];

/**
 * Three blocks of convolution 3x3, normalization and ReLU, then one linear layer: the same for every kind of
 * normalization, so that this is all that differs between runs.
 */
export function convNet(
  { imageShape, classes }: Pick<ImageSplits, "imageShape" | "classes">,
  norm: NormKind,
): Sequential {
  const [channels = 1, size = 8] = imageShape;
  const half = Math.floor(size / 2);
  const pooled = Math.min(4, half);
  const block = (from: number, to: number, s: number): Module[] => [
    new Conv2d(from, to, 3, { padding: 1 }),
    ...(norms[norm] ? [norms[norm](to, s)] : []),
    new ReLU(),
  ];
  return new Sequential(
    ...block(channels, 16, size),
    ...block(16, 32, size),
    new MaxPool2d(2),
    ...block(32, 32, half),
    ...(half > pooled ? [new AdaptiveAvgPool2d(pooled)] : []),
    new Flatten(),
    new Linear(32 * pooled * pooled, classes),
  );
}
