import type { Tensor } from "../../autograd/index.js";
import { readOptions } from "../../base/options.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkPair, checkReduction, forLoss, type Reduction, type ReductionOptions, reduceLoss } from "./reduction.js";

/** |input - target|, with slope 0 where they meet. Shapes: input and target alike. */
export function l1Loss(input: Tensor, target: Tensor, options?: ReductionOptions): Tensor {
  const o = readOptions("l1Loss", options, { reduction: "mean" as Reduction });
  checkPair("l1Loss", input, target);
  return reduceLoss(forLoss(input).sub(target).abs(), checkReduction("l1Loss", o.reduction));
}

/** Mean absolute error. */
export class L1Loss extends Module {
  readonly reduction: Reduction;

  constructor(options?: ReductionOptions & PlacementOptions) {
    super();
    const o = readOptions("L1Loss", options, { reduction: "mean" as Reduction, ...placementDefaults });
    readPlacement(o);
    this.reduction = checkReduction("L1Loss", o.reduction);
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return l1Loss(input, target, { reduction: this.reduction });
  }
}
