import type { Tensor } from "../../autograd/index.js";
import { checkNumber, readOptions } from "../../base/options.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkPair, checkReduction, forLoss, type Reduction, type ReductionOptions, reduceLoss } from "./reduction.js";

export interface HuberOptions extends ReductionOptions {
  /** Where the square turns into a line. Default 1. */
  readonly delta?: number;
}

const defaults = { reduction: "mean" as Reduction, delta: 1 };

/**
 * d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2), with d = input - target. Shapes: input and target alike.
 * Source: Huber 1964.
 */
export function huberLoss(input: Tensor, target: Tensor, options?: HuberOptions): Tensor {
  const o = readOptions("huberLoss", options, defaults);
  checkPair("huberLoss", input, target);
  checkDelta(o.delta);
  const distance = forLoss(input).sub(target).abs();
  // With m = min(|d|, delta) both branches are m (|d| - m / 2), and its slope meets at |d| = delta by itself.
  const inner = distance.minimum(o.delta);
  return reduceLoss(inner.mul(distance.sub(inner.mul(0.5))), checkReduction("huberLoss", o.reduction));
}

const checkDelta = (delta: unknown): number =>
  checkNumber("huberLoss delta", delta, "a finite number above 0", (v) => v > 0 && Number.isFinite(v));

/** Squared error near the target, absolute error far from it. */
export class HuberLoss extends Module {
  readonly reduction: Reduction;
  readonly delta: number;

  constructor(options?: HuberOptions & PlacementOptions) {
    super();
    const o = readOptions("HuberLoss", options, { ...defaults, ...placementDefaults });
    readPlacement(o);
    this.reduction = checkReduction("HuberLoss", o.reduction);
    this.delta = checkDelta(o.delta);
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return huberLoss(input, target, { reduction: this.reduction, delta: this.delta });
  }
}
