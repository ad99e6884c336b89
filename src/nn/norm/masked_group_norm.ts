import { isTraced, ones, type Tensor, where, zeros } from "../../autograd/index.js";
import { bucketNorm } from "../../autograd/ops/bucket_norm.js";
import { standardize } from "../../autograd/ops/column_parts.js";
import { putValid, takeValid } from "../../autograd/ops/compact.js";
import { groupNorm } from "../../autograd/ops/group_norm.js";
import { maskedMoments, validCounts } from "../../autograd/ops/masked_moments.js";
import { ShapeError } from "../../base/errors.js";
import { checkBoolean, checkChoice, checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape, normalizeAxis } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkChannels, checkGroups } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { compactSamples } from "../../norm/mask.js";
import { groupColumns } from "../../norm/views.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";
import { type Mask, maskBeside, type Padded, paddedChoices, readMask } from "./mask.js";
import { checkAxis } from "./running_norm.js";

export interface MaskedGroupNormOptions extends PlacementOptions {
  readonly eps?: number;
  readonly affine?: boolean;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
  /** The output at padded positions: "zero" (default) or "keep", the input as it came. */
  readonly padded?: Padded;
}

/** Each sample's own statistics for groups of channels, over its valid positions. */
abstract class MaskedGroupBase extends Module {
  weight: Parameter | null;
  bias: Parameter | null;
  eps: number;
  readonly axis: number;
  readonly padded: Padded;

  constructor(
    private readonly layer: "MaskedGroupNorm" | "MaskedInstanceNorm",
    private readonly groups: number,
    private readonly channels: number,
    options?: MaskedGroupNormOptions,
  ) {
    super();
    const o = readOptions(layer, options, {
      eps: family[layer].eps as number,
      affine: family[layer].affine as boolean,
      axis: 1,
      padded: "zero" as Padded,
      ...placementDefaults,
    });
    const placed = readPlacement(o);
    this.eps = checkNonNegative(`${layer}: eps`, o.eps);
    this.axis = checkAxis(layer, o.axis);
    this.padded = checkChoice(`${layer}: padded`, o.padded, paddedChoices);
    const affine = checkBoolean(`${layer}: affine`, o.affine);
    this.weight = affine ? affineParameter(ones([channels], placed)) : null;
    this.bias = affine ? affineParameter(zeros([channels], placed)) : null;
  }

  /**
   * Samples with as many valid positions as each other are normalized together, in one kernel call. A sample without any
   * has nothing to normalize; a group of one value has variance 0, so its output is the bias. Elsewhere than on the CPU,
   * and where it is traced, the mask does not decide shapes: statistics are sums over all positions in which padded ones count as 0.
   */
  override forward(x: Tensor, mask?: Mask | null): Tensor {
    const { layer, axis, eps, groups, channels, weight, bias, padded } = this;
    checkChannels(layer, x.shape, axis, channels);
    if (normalizeAxis(axis, x.rank) === 0) {
      throw new ShapeError({
        rule: `${layer}: axis 0 is the batch, so channels must lie on a later axis`,
        got: `axis ${axis} for an input of shape ${formatShape(x.shape)}`,
      });
    }
    if (mask === undefined || mask === null) return groupNorm({ x, weight, bias }, { groups, axis, eps });
    if (x.device !== "cpu" || isTraced()) {
      const valid = maskBeside(layer, mask, x, axis);
      return scope(() => {
        const { view } = groupColumns(x.shape, groups, axis);
        const inside = where(valid, x, 0);
        const moments = maskedMoments({ x: inside, valid, counts: validCounts(x, valid, view) }, { view });
        const part = (i: number) => moments.narrow(0, i, 1).reshape([x.shape[0]! * groups]);
        const y = standardize({ x: inside, mean: part(0), variance: part(1), weight, bias }, { view, eps });
        return where(valid, y, padded === "keep" ? x : 0);
      });
    }
    const { plan, buckets } = compactSamples(readMask(layer, mask, x.shape, axis), x.shape, axis);
    const valid = takeValid({ x }, plan);
    const options = { buckets, channels, groups, last: plan.last, eps };
    const values = buckets.length === 0 ? valid : bucketNorm({ x: valid, weight, bias }, options);
    return putValid({ values, base: padded === "keep" ? x : null }, plan);
  }
}

/**
 * Group normalization of padded sequences: forward(x, mask) with x [N, C, L] (any rank and axis) and a mask of x's shape
 * without the channel axis.
 */
export class MaskedGroupNorm extends MaskedGroupBase {
  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options?: MaskedGroupNormOptions,
  ) {
    checkPositiveInteger("MaskedGroupNorm: numGroups", numGroups);
    checkPositiveInteger("MaskedGroupNorm: numChannels", numChannels);
    checkGroups("MaskedGroupNorm", numGroups, numChannels);
    super("MaskedGroupNorm", numGroups, numChannels, options);
  }
}

/** Instance normalization of padded sequences: the same with a group for each channel, no affine by default. */
export class MaskedInstanceNorm extends MaskedGroupBase {
  constructor(
    readonly numFeatures: number,
    options?: MaskedGroupNormOptions,
  ) {
    checkPositiveInteger("MaskedInstanceNorm: numFeatures", numFeatures);
    super("MaskedInstanceNorm", numFeatures, numFeatures, options);
  }
}
