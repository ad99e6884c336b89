import type { Tensor } from "../autograd/index.js";
import { type AvgPoolOptions, avgPool } from "../autograd/ops/avg_pool.js";
import { type PerAxis, perAxis } from "../autograd/ops/windows.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export type AvgPoolLayerOptions = AvgPoolOptions & PlacementOptions;

/** Mean of each window. */
abstract class AvgPoolNd extends Module {
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly ceilMode: boolean;
  readonly countIncludePad: boolean;

  constructor(
    private readonly axes: number,
    kernelSize: PerAxis,
    options: AvgPoolLayerOptions | undefined,
  ) {
    super();
    const owner = `AvgPool${axes}d`;
    const o = readOptions(owner, options, {
      ...{ stride: undefined as PerAxis | undefined, padding: 0 as PerAxis, ceilMode: false, countIncludePad: true },
      ...placementDefaults,
    });
    readPlacement(o);
    this.kernelSize = perAxis(`${owner} kernelSize`, kernelSize, axes, 1);
    this.stride = perAxis(`${owner} stride`, o.stride ?? this.kernelSize, axes, 1);
    this.padding = perAxis(`${owner} padding`, o.padding, axes, 0);
    this.ceilMode = checkBoolean(`${owner} ceilMode`, o.ceilMode);
    this.countIncludePad = checkBoolean(`${owner} countIncludePad`, o.countIncludePad);
  }

  override forward(x: Tensor): Tensor {
    const { stride, padding, ceilMode, countIncludePad } = this;
    return avgPool(x, this.kernelSize, this.axes, { stride, padding, ceilMode, countIncludePad });
  }
}

/** Average pooling of [N, C, L] or [C, L]. */
export class AvgPool1d extends AvgPoolNd {
  constructor(kernelSize: PerAxis, options?: AvgPoolLayerOptions) {
    super(1, kernelSize, options);
  }
}

/** Average pooling of [N, C, H, W] or [C, H, W]. */
export class AvgPool2d extends AvgPoolNd {
  constructor(kernelSize: PerAxis, options?: AvgPoolLayerOptions) {
    super(2, kernelSize, options);
  }
}

/** Average pooling of [N, C, D, H, W] or [C, D, H, W]. */
export class AvgPool3d extends AvgPoolNd {
  constructor(kernelSize: PerAxis, options?: AvgPoolLayerOptions) {
    super(3, kernelSize, options);
  }
}
