import type { Tensor } from "../autograd/index.js";
import { ShapeError } from "../base/errors.js";
import { formatShape, sameShape } from "../base/shape.js";
import { Module } from "./module.js";

/**
 * y = body(x) + shortcut(x); without a shortcut, y = body(x) + x. Children are named "body" and "shortcut".
 * Throws ShapeError when the two sides have different shapes. Source: He et al. 2015, arXiv:1512.03385.
 */
export class Residual extends Module {
  constructor(
    readonly body: Module,
    readonly shortcut: Module | null = null,
  ) {
    super();
  }

  override forward(x: Tensor): Tensor {
    const deep = this.body.forward(x);
    const short = this.shortcut ? this.shortcut.forward(x) : x;
    if (!sameShape(deep.shape, short.shape)) {
      throw new ShapeError({
        rule: "Residual adds the body's result to the shortcut's, of one shape",
        got: `${formatShape(deep.shape)} and ${formatShape(short.shape)}`,
        fix: "Give a shortcut that changes the shape alike, for example a 1 x 1 convolution with the body's stride",
      });
    }
    const y = deep.add(short);
    for (const side of [deep, short]) if (side !== x && !side.owned) side.dispose();
    return y;
  }
}
