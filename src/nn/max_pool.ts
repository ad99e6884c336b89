import type { Tensor } from "../autograd/index.js";
import { maxPool } from "../autograd/ops/max_pool.js";
import { type PerAxis, type PoolOptions, perAxis } from "../autograd/ops/windows.js";
import { checkBoolean, readOptions } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export type MaxPoolLayerOptions = PoolOptions & PlacementOptions;

/** Largest element of each window; padding never wins. */
abstract class MaxPoolNd extends Module {
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly ceilMode: boolean;

  constructor(
    private readonly axes: number,
    kernelSize: PerAxis,
    options: MaxPoolLayerOptions | undefined,
  ) {
    super();
    const owner = `MaxPool${axes}d`;
    const o = readOptions(owner, options, {
      ...{ stride: undefined as PerAxis | undefined, padding: 0 as PerAxis, dilation: 1 as PerAxis, ceilMode: false },
      ...placementDefaults,
    });
    readPlacement(o);
    this.kernelSize = perAxis(`${owner} kernelSize`, kernelSize, axes, 1);
    this.stride = perAxis(`${owner} stride`, o.stride ?? this.kernelSize, axes, 1);
    this.padding = perAxis(`${owner} padding`, o.padding, axes, 0);
    this.dilation = perAxis(`${owner} dilation`, o.dilation, axes, 1);
    this.ceilMode = checkBoolean(`${owner} ceilMode`, o.ceilMode);
  }

  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, ceilMode } = this;
    return maxPool(x, this.kernelSize, this.axes, { stride, padding, dilation, ceilMode });
  }
}

/** Max pooling of [N, C, L] or [C, L]. */
export class MaxPool1d extends MaxPoolNd {
  constructor(kernelSize: PerAxis, options?: MaxPoolLayerOptions) {
    super(1, kernelSize, options);
  }
}

/** Max pooling of [N, C, H, W] or [C, H, W]. */
export class MaxPool2d extends MaxPoolNd {
  constructor(kernelSize: PerAxis, options?: MaxPoolLayerOptions) {
    super(2, kernelSize, options);
  }
}

/** Max pooling of [N, C, D, H, W] or [C, D, H, W]. */
export class MaxPool3d extends MaxPoolNd {
  constructor(kernelSize: PerAxis, options?: MaxPoolLayerOptions) {
    super(3, kernelSize, options);
  }
}
