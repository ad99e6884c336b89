import type { Tensor } from "../autograd/index.js";
import { readOptions } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** Returns its input: stands where a layer was taken out. */
export class Identity extends Module {
  constructor(options?: PlacementOptions) {
    super();
    readPlacement(readOptions("Identity", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return x;
  }
}
