import type { Tensor } from "../autograd/index.js";
import { adaptiveAvgPool, type OutputSize } from "../autograd/ops/adaptive_avg_pool.js";
import { readOptions } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** Average pooling to a given size, whatever the input's; null along an axis keeps its length. */
abstract class AdaptiveAvgPoolNd extends Module {
  constructor(
    private readonly axes: number,
    readonly outputSize: OutputSize,
    options: PlacementOptions | undefined,
  ) {
    super();
    readPlacement(readOptions(`AdaptiveAvgPool${axes}d`, options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool(x, this.outputSize, this.axes);
  }
}

/** Adaptive average pooling of [N, C, L] or [C, L]. */
export class AdaptiveAvgPool1d extends AdaptiveAvgPoolNd {
  constructor(outputSize: OutputSize, options?: PlacementOptions) {
    super(1, outputSize, options);
  }
}

/** Adaptive average pooling of [N, C, H, W] or [C, H, W]. */
export class AdaptiveAvgPool2d extends AdaptiveAvgPoolNd {
  constructor(outputSize: OutputSize, options?: PlacementOptions) {
    super(2, outputSize, options);
  }
}

/** Adaptive average pooling of [N, C, D, H, W] or [C, D, H, W]. */
export class AdaptiveAvgPool3d extends AdaptiveAvgPoolNd {
  constructor(outputSize: OutputSize, options?: PlacementOptions) {
    super(3, outputSize, options);
  }
}
