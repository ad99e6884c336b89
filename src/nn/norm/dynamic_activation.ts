import { full, ones, type Tensor, zeros } from "../../autograd/index.js";
import { dynamicActivation } from "../../autograd/ops/dynamic_activation.js";
import { checkBoolean, checkNumber, readOptions } from "../../base/options.js";
import type { Shape } from "../../base/shape.js";
import { checkNormalizedShape } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module, type Parameter } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { affineParameter } from "./affine_parameter.js";

export interface DyTOptions extends PlacementOptions {
  /** What alpha begins as. */
  readonly alphaInit?: number;
  /** Whether there are weight and bias. */
  readonly affine?: boolean;
}

/** The mark keeps weights over several axes out of weight decay too. */

/** weight * f(alpha x + shift) + bias: no statistics, in the place of normalization. */
abstract class DynamicActivation extends Module {
  readonly normalizedShape: Shape;
  alpha: Parameter;
  weight: Parameter | null;
  bias: Parameter | null;

  constructor(layer: "DyT" | "Derf", normalizedShape: number | Shape, o: typeof defaults) {
    super();
    this.normalizedShape = checkNormalizedShape(layer, normalizedShape);
    const placed = readPlacement(o);
    const affine = checkBoolean(`${layer}: affine`, o.affine);
    const alpha = checkNumber(`${layer}: alphaInit`, o.alphaInit, "a finite number", Number.isFinite);
    const shape = this.normalizedShape;
    this.alpha = affineParameter(full([1], alpha, placed));
    this.weight = affine ? affineParameter(ones(shape, placed)) : null;
    this.bias = affine ? affineParameter(zeros(shape, placed)) : null;
  }
}

const defaults = { alphaInit: 0.5, affine: family.DyT.affine as boolean, ...placementDefaults };

/** Dynamic tanh: weight * tanh(alpha x) + bias, along the last axes, whose lengths are `normalizedShape`. */
export class DyT extends DynamicActivation {
  constructor(normalizedShape: number | Shape, options?: DyTOptions) {
    super("DyT", normalizedShape, readOptions("DyT", options, defaults));
  }

  override forward(x: Tensor): Tensor {
    const { alpha, weight, bias, normalizedShape } = this;
    return dynamicActivation({ x, alpha, shift: null, weight, bias }, { op: "tanh", normalizedShape });
  }
}

export interface DerfOptions extends DyTOptions {
  /** What the shift s begins as. */
  readonly shiftInit?: number;
}

/** Dynamic erf: weight * erf(alpha x + shift) + bias, along the last axes, whose lengths are `normalizedShape`. */
export class Derf extends DynamicActivation {
  shift: Parameter;

  constructor(normalizedShape: number | Shape, options?: DerfOptions) {
    const { shiftInit, ...o } = readOptions("Derf", options, { ...defaults, shiftInit: 0 });
    super("Derf", normalizedShape, o);
    checkNumber("Derf: shiftInit", shiftInit, "a finite number", Number.isFinite);
    this.shift = affineParameter(full([1], shiftInit, readPlacement(o)));
  }

  override forward(x: Tensor): Tensor {
    const { alpha, shift, weight, bias, normalizedShape } = this;
    return dynamicActivation({ x, alpha, shift, weight, bias }, { op: "erf", normalizedShape });
  }
}
