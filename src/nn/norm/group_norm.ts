import { ones, type Tensor, zeros } from "../../autograd/index.js";
import { groupNorm } from "../../autograd/ops/group_norm.js";
import { checkBoolean, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { checkChannels, checkGroups } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkAxis } from "./running_norm.js";

export interface GroupNormOptions extends PlacementOptions {
  readonly eps?: number;
  readonly affine?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/** Group normalization of [N, C, ...]. numGroups 1 is layer normalization over all but N; numChannels, instance. */
export class GroupNorm extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;
  readonly axis: number;

  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options?: GroupNormOptions,
  ) {
    super();
    checkPositiveInteger("GroupNorm: numGroups", numGroups);
    checkPositiveInteger("GroupNorm: numChannels", numChannels);
    checkGroups("GroupNorm", numGroups, numChannels);
    const o = readOptions("GroupNorm", options, {
      eps: family.GroupNorm.eps as number,
      affine: family.GroupNorm.affine as boolean,
      axis: 1,
      ...placementDefaults,
    });
    const { dtype } = readPlacement(o);
    this.eps = checkNonNegative("GroupNorm: eps", o.eps);
    this.axis = checkAxis("GroupNorm", o.axis);
    const affine = checkBoolean("GroupNorm: affine", o.affine);
    this.weight = affine ? new Parameter(ones([numChannels], { dtype })) : null;
    this.bias = affine ? new Parameter(zeros([numChannels], { dtype })) : null;
  }

  override forward(x: Tensor): Tensor {
    const { weight, bias, numGroups, numChannels, axis, eps } = this;
    checkChannels("GroupNorm", x.shape, axis, numChannels);
    return groupNorm({ x, weight, bias }, { groups: numGroups, axis, eps });
  }
}
