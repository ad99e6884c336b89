import type { Tensor } from "../../autograd/index.js";
import { checkFloating } from "../../autograd/ops/floating.js";
import { instanceNormBySample, sampleStatistics } from "../../autograd/ops/sample_affine.js";
import { ShapeError } from "../../base/errors.js";
import { checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { formatShape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Linear } from "../linear.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkCondition, partsOf } from "./condition.js";
import { checkAxis } from "./running_norm.js";

/**
 * The content's features with the style's mean and standard deviation, for each sample and channel:
 * sigma(style) (content - mu(content)) / sigma(content) + mu(style), sigma = sqrt(biased variance + eps).
 *
 * Shapes: content [N, C, ...], style [N, C, ...] with any number of positions.
 */
export function adaIN(content: Tensor, style: Tensor, options?: { readonly eps?: number }): Tensor {
  const { eps } = readOptions("F.adaIN", options, { eps: family.AdaIN.eps as number });
  checkNonNegative("F.adaIN: eps", eps);
  checkFloating("F.adaIN", content, { style });
  const fits = content.shape[0] === style.shape[0] && content.shape[1] === style.shape[1];
  if (!fits || content.rank < 3 || style.rank < 3 || style.size === 0) {
    throw new ShapeError({
      rule: "F.adaIN takes content [N, C, ...] and style [N, C, ...] of the same N and C, each with at least one spatial axis",
      got: `${formatShape(content.shape)} and ${formatShape(style.shape)}`,
      fix: "Style statistics that are known already go to F.film(instanceNorm(content), std, mean)",
    });
  }
  return scope(() => {
    const { mean: beta, std: gamma } = sampleStatistics(style, eps);
    return instanceNormBySample({ x: content, gamma, beta }, 1, eps, "F.adaIN");
  });
}

export interface AdaINOptions extends PlacementOptions {
  readonly eps?: number;
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/**
 * Instance normalization with scale and shift from a style vector, as in StyleGAN:
 * y = (1 + gamma(c)) xhat + beta(c), gamma and beta linear in c.
 *
 * Shapes: x [N, ..., C, ...] of rank 3 or more, condition [N, conditionSize].
 * State:  fc.weight [2 C, conditionSize] (rows of gamma, then of beta), fc.bias [2 C].
 */
export class AdaIN extends Module {
  readonly fc: Linear;
  readonly axis: number;
  eps: number;

  constructor(
    readonly numFeatures: number,
    readonly conditionSize: number,
    options?: AdaINOptions,
  ) {
    super();
    const o = readOptions("AdaIN", options, { eps: family.AdaIN.eps as number, axis: 1, ...placementDefaults });
    const placed = readPlacement(o);
    checkPositiveInteger("AdaIN: numFeatures", numFeatures);
    checkPositiveInteger("AdaIN: conditionSize", conditionSize);
    this.eps = checkNonNegative("AdaIN: eps", o.eps);
    this.axis = checkAxis("AdaIN", o.axis);
    this.fc = new Linear(conditionSize, 2 * numFeatures, placed);
  }

  override forward(x: Tensor, condition: Tensor): Tensor {
    const { numFeatures, conditionSize, axis, fc, eps } = this;
    checkChannels("AdaIN", x.shape, axis, numFeatures);
    checkCondition("AdaIN", condition, x, conditionSize);
    return scope(() => {
      const [gamma, beta] = partsOf(fc.forward(condition), 2) as [Tensor, Tensor];
      return instanceNormBySample({ x, gamma: gamma.add(1), beta }, axis, eps, "AdaIN");
    });
  }
}
