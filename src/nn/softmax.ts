import type { Tensor } from "../autograd/index.js";
import { logSoftmax, softmax } from "../autograd/ops/softmax.js";
import { readOptions } from "../base/options.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** Softmax along one axis. */
export class Softmax extends Module {
  constructor(
    readonly dim = -1,
    options?: PlacementOptions,
  ) {
    super();
    readPlacement(readOptions("Softmax", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return softmax(x, this.dim);
  }
}

/** Logarithm of softmax along one axis. */
export class LogSoftmax extends Module {
  constructor(
    readonly dim = -1,
    options?: PlacementOptions,
  ) {
    super();
    readPlacement(readOptions("LogSoftmax", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return logSoftmax(x, this.dim);
  }
}
