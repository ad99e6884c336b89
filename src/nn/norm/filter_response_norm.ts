import { full, ones, type Tensor, zeros } from "../../autograd/index.js";
import { filterResponseNorm } from "../../autograd/ops/filter_response_norm.js";
import { tlu } from "../../autograd/ops/tlu.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { checkAxis } from "./running_norm.js";

export interface FilterResponseNormOptions extends PlacementOptions {
  readonly eps?: number;
  /** Learn eps, which begins at `eps` and counts by its absolute value: for positions few enough that nu2 may vanish. */
  readonly learnableEps?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/** Division by the root mean square of each sample's channel over its positions. Meant to be followed by a TLU. */
export class FilterResponseNorm extends Module {
  weight: Parameter;
  bias: Parameter;
  eps: Parameter | number;
  readonly axis: number;

  constructor(
    readonly numFeatures: number,
    options?: FilterResponseNormOptions,
  ) {
    super();
    checkPositiveInteger("FilterResponseNorm: numFeatures", numFeatures);
    const o = readOptions("FilterResponseNorm", options, {
      eps: family.FilterResponseNorm.eps as number,
      learnableEps: false,
      axis: 1,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.axis = checkAxis("FilterResponseNorm", o.axis);
    const eps = checkNonNegative("FilterResponseNorm: eps", o.eps);
    const learnable = checkBoolean("FilterResponseNorm: learnableEps", o.learnableEps);
    this.weight = affineParameter(ones([numFeatures], placed));
    this.bias = affineParameter(zeros([numFeatures], placed));
    this.eps = learnable ? affineParameter(full([1], eps, placed)) : eps;
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, eps, axis, numFeatures } = this;
    checkChannels("FilterResponseNorm", x.shape, axis, numFeatures);
    const learned = typeof eps === "number" ? null : eps;
    return filterResponseNorm({ x, weight, bias, eps: learned }, { axis, eps: typeof eps === "number" ? eps : 0 });
  }
}

export interface TLUOptions extends PlacementOptions {
  readonly axis?: number;
}

/** Thresholded linear unit: max(x, tau) with a learned threshold a channel, which begins at 0. */
export class TLU extends Module {
  tau: Parameter;
  readonly axis: number;

  constructor(
    readonly numFeatures: number,
    options?: TLUOptions,
  ) {
    super();
    checkPositiveInteger("TLU: numFeatures", numFeatures);
    const o = readOptions("TLU", options, { axis: 1, ...placementDefaults });
    const placed = readPlacement(o);
    this.axis = checkAxis("TLU", o.axis);
    this.tau = affineParameter(zeros([numFeatures], placed));
  }

  override forward(x: Tensor): Tensor {
    const { tau, axis, numFeatures } = this;
    checkChannels("TLU", x.shape, axis, numFeatures);
    return tlu({ x, tau }, axis);
  }
}
