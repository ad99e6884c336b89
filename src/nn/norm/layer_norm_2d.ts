import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { groupNormPerPosition } from "../../autograd/ops/group_norm.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { checkChannels, checkRank } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";

export interface LayerNorm2dOptions extends PlacementOptions {
  readonly eps?: number;
  readonly elementwiseAffine?: boolean;
  /** False leaves the bias out and keeps the weight. */
  readonly bias?: boolean;
}

/** Layer normalization of [N, C, H, W] over the channels, at each position. */
export class LayerNorm2d extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;

  constructor(
    readonly numChannels: number,
    options?: LayerNorm2dOptions,
  ) {
    super();
    checkPositiveInteger("LayerNorm2d: numChannels", numChannels);
    const o = readOptions("LayerNorm2d", options, {
      eps: family.LayerNorm2d.eps as number,
      elementwiseAffine: family.LayerNorm2d.affine as boolean,
      bias: true,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative("LayerNorm2d: eps", o.eps);
    const affine = checkBoolean("LayerNorm2d: elementwiseAffine", o.elementwiseAffine);
    const withBias = checkBoolean("LayerNorm2d: bias", o.bias);
    this.weight = affine ? affineParameter(ones([numChannels], placed)) : null;
    this.bias = affine && withBias ? affineParameter(zeros([numChannels], placed)) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, numChannels, eps } = this;
    checkRank("LayerNorm2d", x.shape, family.LayerNorm2d.ranks, family.LayerNorm2d.layouts);
    checkChannels("LayerNorm2d", x.shape, 1, numChannels);
    return groupNormPerPosition({ x, weight, bias }, { groups: 1, eps });
  }
}
