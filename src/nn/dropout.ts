import type { Tensor } from "../autograd/index.js";
import { dropout as dropoutOp } from "../autograd/ops/dropout.js";
import { checkProbability, readOptions } from "../base/options.js";
import type { Random } from "../base/random.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

export interface DropoutOptions {
  /** Share of elements that become 0. Default 0.5. */
  readonly p?: number;
  /** Default true; false returns x. */
  readonly training?: boolean;
  /** Where the mask comes from; the generator that manualSeed seeds unless given. */
  readonly random?: Random | undefined;
}

/** Zeroes elements with probability p and scales the others by 1 / (1 - p). */
export function dropout(x: Tensor, options?: DropoutOptions): Tensor {
  const o = readOptions("dropout", options, { p: 0.5, training: true, random: undefined as Random | undefined });
  checkProbability("dropout p", o.p);
  return o.training ? dropoutOp(x, o.p, o.random) : x;
}

/** Dropout in training, identity in evaluation. */
export class Dropout extends Module {
  constructor(
    readonly p = 0.5,
    options?: PlacementOptions,
  ) {
    super();
    checkProbability("Dropout p", p);
    readPlacement(readOptions("Dropout", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return this.training ? dropoutOp(x, this.p) : x;
  }
}
