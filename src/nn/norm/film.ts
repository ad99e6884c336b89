import type { Tensor } from "../../autograd/index.js";
import { sampleAffine } from "../../autograd/ops/sample_affine.js";
import { checkPositiveInteger, readOptions } from "../../base/options.js";
import { scope } from "../../memory/scope.js";
import { checkChannels } from "../../norm/checks.js";
import { Linear } from "../linear.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkCondition, partsOf } from "./condition.js";
import { checkAxis } from "./running_norm.js";

/** Feature-wise linear modulation, y = gamma x + beta with gamma and beta [N, C] for x [N, ..., C, ...]. */
export function film(x: Tensor, gamma: Tensor, beta: Tensor, options?: { readonly axis?: number }): Tensor {
  const { axis } = readOptions("F.film", options, { axis: 1 });
  return scope(() => sampleAffine({ x, gamma, beta }, checkAxis("F.film", axis), "F.film"));
}

export interface FiLMOptions extends PlacementOptions {
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/**
 * Feature-wise linear modulation by a vector: y = (1 + gamma(c)) x + beta(c), gamma and beta linear in c.
 *
 * Shapes: x [N, ..., C, ...], condition [N, conditionSize].
 * State:  fc.weight [2 C, conditionSize] (rows of gamma, then of beta), fc.bias [2 C].
 */
export class FiLM extends Module {
  readonly fc: Linear;
  readonly axis: number;

  constructor(
    readonly numFeatures: number,
    readonly conditionSize: number,
    options?: FiLMOptions,
  ) {
    super();
    const o = readOptions("FiLM", options, { axis: 1, ...placementDefaults });
    const placed = readPlacement(o);
    checkPositiveInteger("FiLM: numFeatures", numFeatures);
    checkPositiveInteger("FiLM: conditionSize", conditionSize);
    this.axis = checkAxis("FiLM", o.axis);
    this.fc = new Linear(conditionSize, 2 * numFeatures, placed);
  }

  override forward(x: Tensor, condition: Tensor): Tensor {
    const { numFeatures, conditionSize, axis, fc } = this;
    checkChannels("FiLM", x.shape, axis, numFeatures);
    checkCondition("FiLM", condition, x, conditionSize);
    return scope(() => {
      const [gamma, beta] = partsOf(fc.forward(condition), 2) as [Tensor, Tensor];
      return sampleAffine({ x, gamma: gamma.add(1), beta }, axis, "FiLM");
    });
  }
}
