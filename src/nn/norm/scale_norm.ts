import { full, type Tensor } from "../../autograd/index.js";
import { unitRows } from "../../autograd/ops/unit_vectors.js";
import { ShapeError } from "../../base/errors.js";
import { checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";

export interface ScaleNormOptions extends PlacementOptions {
  /** The smallest norm that is divided by. */
  readonly eps?: number;
}

/** Vectors along the last axis scaled to one learned length, which begins at `scale`: sqrt(d) in the paper. */
export class ScaleNorm extends Module {
  scale: Parameter;
  eps: number;

  constructor(scale: number, options?: ScaleNormOptions) {
    super();
    const o = readOptions("ScaleNorm", options, { eps: family.ScaleNorm.eps as number, ...placementDefaults });
    const placed = readPlacement(o);
    checkNumber("ScaleNorm: scale", scale, "a finite number", Number.isFinite);
    this.eps = checkNonNegative("ScaleNorm: eps", o.eps);
    this.scale = affineParameter(full([], scale, placed));
  }

  override forward(x: Tensor): Tensor {
    if (x.rank === 0) throw new ShapeError({ rule: "ScaleNorm takes vectors along the last axis", got: "a rank of 0" });
    const { scale, eps } = this;
    return unitRows({ x, scale }, { size: x.shape[x.rank - 1]!, eps });
  }
}
