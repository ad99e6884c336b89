import type { Tensor } from "../../autograd/index.js";
import { readOptions } from "../../base/options.js";
import { Module } from "../module.js";
import { asPlaced, type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkPair, checkReduction, forLoss, type Reduction, type ReductionOptions, reduceLoss } from "./reduction.js";

export interface BCEWithLogitsOptions extends ReductionOptions {
  /** A factor for each loss; broadcasts. */
  readonly weight?: Tensor | null;
  /** A factor for the positive term, one a class; broadcasts. */
  readonly posWeight?: Tensor | null;
}

const defaults = {
  weight: null as Tensor | null,
  posWeight: null as Tensor | null,
  reduction: "mean" as Reduction,
};

/**
 * -(t log s + (1 - t) log(1 - s)) with s = sigmoid(input), the first term times posWeight. Shapes: input and target alike.
 */
export function bceWithLogitsLoss(input: Tensor, target: Tensor, options?: BCEWithLogitsOptions): Tensor {
  const o = readOptions("bceWithLogitsLoss", options, defaults);
  checkPair("bceWithLogitsLoss", input, target);
  // -log s = softplus(-x) and -log(1 - s) = softplus(x), each by itself: no term is larger than the loss, so that the
  // small loss and slope of a confident, right logit are not the difference of two large numbers.
  const x = forLoss(input);
  const positive = o.posWeight ? target.mul(o.posWeight) : target;
  const losses = positive.mul(x.neg().softplus()).add(target.neg().add(1).mul(x.softplus()));
  return reduceLoss(o.weight ? losses.mul(o.weight) : losses, checkReduction("bceWithLogitsLoss", o.reduction));
}

/** Binary cross entropy of logits, the sigmoid included. */
export class BCEWithLogitsLoss extends Module {
  readonly reduction: Reduction;
  declare readonly weight: Tensor | null;
  declare readonly posWeight: Tensor | null;

  constructor(options?: BCEWithLogitsOptions & PlacementOptions) {
    super();
    const o = readOptions("BCEWithLogitsLoss", options, { ...defaults, ...placementDefaults });
    const placed = readPlacement(o);
    this.reduction = checkReduction("BCEWithLogitsLoss", o.reduction);
    this.registerBuffer("weight", asPlaced(o.weight, placed));
    this.registerBuffer("posWeight", asPlaced(o.posWeight, placed));
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    const { weight, posWeight, reduction } = this;
    return bceWithLogitsLoss(input, target, { weight, posWeight, reduction });
  }
}
