import { type Tensor, zeros } from "../../autograd/index.js";
import { globalResponseNorm } from "../../autograd/ops/global_response_norm.js";
import { checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { checkAxis } from "./running_norm.js";

export interface GRNOptions extends PlacementOptions {
  readonly eps?: number;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last, as the paper has it. */
  readonly axis?: number;
}

/**
 * Global response normalization: each channel is raised or lowered by its norm over space relative to the other channels',
 * added to the input. gamma and beta begin at 0, so that the layer begins as the identity.
 */
export class GRN extends Module {
  gamma: Parameter;
  beta: Parameter;
  eps: number;
  readonly axis: number;

  constructor(
    readonly numChannels: number,
    options?: GRNOptions,
  ) {
    super();
    checkPositiveInteger("GRN: numChannels", numChannels);
    const o = readOptions("GRN", options, { eps: family.GRN.eps as number, axis: 1, ...placementDefaults });
    const placed = readPlacement(o);
    this.eps = checkNonNegative("GRN: eps", o.eps);
    this.axis = checkAxis("GRN", o.axis);
    this.gamma = affineParameter(zeros([numChannels], placed));
    this.beta = affineParameter(zeros([numChannels], placed));
  }

  override forward(x: Tensor): Tensor {
    const { gamma, beta, numChannels, axis, eps } = this;
    checkChannels("GRN", x.shape, axis, numChannels);
    return globalResponseNorm({ x, weight: gamma, bias: beta }, { axis, eps });
  }
}
