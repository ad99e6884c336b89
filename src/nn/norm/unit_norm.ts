import type { Tensor } from "../../autograd/index.js";
import { vectorNorm } from "../../autograd/ops/vector_norm.js";
import { OptionError } from "../../base/errors.js";
import { checkNonNegative, checkNumber, readOptions } from "../../base/options.js";
import { normalizeAxes } from "../../base/shape.js";
import { family } from "../../norm/family.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";

export interface NormalizeOptions {
  /** Which norm: 2 (default), any number of at least 0, or Infinity. */
  readonly p?: number;
  /** The axis, or axes, along which vectors lie. Default 1. */
  readonly dim?: number | readonly number[];
  /** The smallest norm that is divided by. */
  readonly eps?: number;
}

/** Vectors scaled to length 1: x / max(||x||_p, eps). */
export function normalize(x: Tensor, options?: NormalizeOptions): Tensor {
  const o = readOptions("F.normalize", options, {
    p: 2,
    dim: 1 as number | readonly number[],
    eps: family.UnitNorm.eps as number,
  });
  checkNumber("F.normalize: p", o.p, "a number of at least 0, or Infinity", (v) => v >= 0);
  checkNonNegative("F.normalize: eps", o.eps);
  return vectorNorm(x, { p: o.p, axes: normalizeAxes(checkAxes("F.normalize: dim", o.dim), x.rank), eps: o.eps });
}

/** One axis or several. */
export function checkAxes(what: string, axes: unknown): number | readonly number[] {
  const list = typeof axes === "number" ? [axes] : axes;
  if (Array.isArray(list) && list.length > 0 && list.every(Number.isInteger)) return axes as number | number[];
  throw new OptionError({
    rule: `${what} must be a whole number or a list of such`,
    got: JSON.stringify(axes) ?? "none",
  });
}

export interface UnitNormOptions extends PlacementOptions {
  readonly eps?: number;
}

/** Vectors along an axis, or several, scaled to Euclidean length 1. */
export class UnitNorm extends Module {
  readonly dim: number | readonly number[];
  eps: number;

  constructor(dim: number | readonly number[] = -1, options?: UnitNormOptions) {
    super();
    const o = readOptions("UnitNorm", options, { eps: family.UnitNorm.eps as number, ...placementDefaults });
    readPlacement(o);
    this.dim = checkAxes("UnitNorm: dim", dim);
    this.eps = checkNonNegative("UnitNorm: eps", o.eps);
  }

  override forward(x: Tensor): Tensor {
    const { dim, eps } = this;
    return vectorNorm(x, { p: 2, axes: normalizeAxes(dim, x.rank), eps });
  }
}
