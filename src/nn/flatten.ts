import type { Tensor } from "../autograd/index.js";
import { ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { formatShape, normalizeAxis, numberOfElements } from "../base/shape.js";
import { Module } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** Axes startDim to endDim, both included, as one. Shares memory with x. */
export function flatten(x: Tensor, startDim = 0, endDim = -1): Tensor {
  if (x.rank === 0) return x.reshape([1]);
  const [from, to] = [normalizeAxis(startDim, x.rank, "startDim"), normalizeAxis(endDim, x.rank, "endDim")];
  if (from > to) {
    throw new ShapeError({
      rule: "flatten needs startDim before endDim",
      got: `${startDim} and ${endDim} for shape ${formatShape(x.shape)}`,
    });
  }
  const joined = numberOfElements(x.shape.slice(from, to + 1));
  return x.reshape([...x.shape.slice(0, from), joined, ...x.shape.slice(to + 1)]);
}

/** [N, C, H, W] to [N, C * H * W]: what stands between convolutions and Linear. */
export class Flatten extends Module {
  constructor(
    readonly startDim = 1,
    readonly endDim = -1,
    options?: PlacementOptions,
  ) {
    super();
    readPlacement(readOptions("Flatten", options, placementDefaults));
  }

  override forward(x: Tensor): Tensor {
    return flatten(x, this.startDim, this.endDim);
  }
}
