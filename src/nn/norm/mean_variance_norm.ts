import type { Tensor } from "../../autograd/index.js";
import { meanVarianceNorm } from "../../autograd/ops/mean_variance_norm.js";
import { checkNonNegative, readOptions } from "../../base/options.js";
import { normalizeAxes } from "../../base/shape.js";
import { family } from "../../norm/family.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkAxes } from "./unit_norm.js";

export interface MeanVarianceNormOptions extends PlacementOptions {
  /** What a statistic spans. Default [0, 2, 3]: one for each channel of [N, C, H, W]. */
  readonly axes?: number | readonly number[];
  /** Added to the standard deviation, not to the variance. */
  readonly eps?: number;
}

/** Mean 0 and standard deviation 1 over any axes; nothing is learned and nothing kept. */
export class MeanVarianceNorm extends Module {
  readonly axes: number | readonly number[];
  eps: number;

  constructor(options?: MeanVarianceNormOptions) {
    super();
    const o = readOptions("MeanVarianceNorm", options, {
      axes: [0, 2, 3] as number | readonly number[],
      eps: family.MeanVarianceNorm.eps as number,
      ...placementDefaults,
    });
    readPlacement(o);
    this.axes = checkAxes("MeanVarianceNorm: axes", o.axes);
    this.eps = checkNonNegative("MeanVarianceNorm: eps", o.eps);
  }

  override forward(x: Tensor): Tensor {
    return meanVarianceNorm(x, { axes: normalizeAxes(this.axes, x.rank), eps: this.eps });
  }
}
