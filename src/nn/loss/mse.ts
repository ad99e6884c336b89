import type { Tensor } from "../../autograd/index.js";
import { readOptions } from "../../base/options.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkPair, checkReduction, forLoss, type Reduction, type ReductionOptions, reduceLoss } from "./reduction.js";

/** (input - target)^2. Shapes: input and target alike. */
export function mseLoss(input: Tensor, target: Tensor, options?: ReductionOptions): Tensor {
  const o = readOptions("mseLoss", options, { reduction: "mean" as Reduction });
  checkPair("mseLoss", input, target);
  return reduceLoss(forLoss(input).sub(target).square(), checkReduction("mseLoss", o.reduction));
}

/** Mean squared error. */
export class MSELoss extends Module {
  readonly reduction: Reduction;

  constructor(options?: ReductionOptions & PlacementOptions) {
    super();
    const o = readOptions("MSELoss", options, { reduction: "mean" as Reduction, ...placementDefaults });
    readPlacement(o);
    this.reduction = checkReduction("MSELoss", o.reduction);
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return mseLoss(input, target, { reduction: this.reduction });
  }
}
