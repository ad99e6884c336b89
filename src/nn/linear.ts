import { linear as linearOp, type Tensor, zeros } from "../autograd/index.js";
import { checkLayerTypes } from "../autograd/ops/floating.js";
import { ShapeError } from "../base/errors.js";
import { checkBoolean, checkPositiveInteger, readOptions } from "../base/options.js";
import { formatShape } from "../base/shape.js";
import { defaultWeights } from "./init.js";
import { Module, Parameter } from "./module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "./placement.js";

/** y = x weight^T + bias. Shapes: x [..., in], weight [out, in], bias [out] or null, y [..., out]. */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  const inFeatures = weight.shape[1];
  if (weight.rank !== 2 || (bias && (bias.rank !== 1 || bias.size !== weight.shape[0]))) {
    throw new ShapeError({
      rule: "linear needs weight [out, in] and bias [out]",
      got: `${formatShape(weight.shape)} and ${bias ? formatShape(bias.shape) : "no bias"}`,
    });
  }
  if (x.rank === 0 || x.shape[x.rank - 1] !== inFeatures) {
    throw new ShapeError({
      rule: `linear with weight ${formatShape(weight.shape)} takes [..., ${inFeatures}]`,
      got: formatShape(x.shape),
      fix: "Features stand on the last axis: flatten convolution output first (nn.Flatten), or change inFeatures",
    });
  }
  checkLayerTypes("linear", x, weight, bias);
  return linearOp({ x, weight, bias }, {});
}

export interface LinearOptions extends PlacementOptions {
  readonly bias?: boolean;
}

/** A learned linear map of the last axis. State: weight [out, in], bias [out]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options?: LinearOptions,
  ) {
    super();
    checkPositiveInteger("Linear inFeatures", inFeatures);
    checkPositiveInteger("Linear outFeatures", outFeatures);
    const o = readOptions("Linear", options, { bias: true, ...placementDefaults });
    const placed = readPlacement(o);
    checkBoolean("Linear bias", o.bias);
    this.weight = new Parameter(zeros([outFeatures, inFeatures], placed));
    this.bias = o.bias ? new Parameter(zeros([outFeatures], placed)) : null;
    this.resetParameters();
  }

  /** Uniform in +-1 / sqrt(inFeatures). */
  resetParameters(): void {
    defaultWeights(this.weight, this.bias);
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
