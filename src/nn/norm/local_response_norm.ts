import type { Tensor } from "../../autograd/index.js";
import {
  type Lean,
  localResponseNorm as localResponseNormOp,
  mapResponseNorm,
  type ResponseOptions,
} from "../../autograd/ops/local_response_norm.js";
import { checkChoice, checkNonNegative, checkNumber, checkPositiveInteger, readOptions } from "../../base/options.js";
import { checkRank } from "../../norm/checks.js";
import { family } from "../../norm/family.js";
import { Module } from "../module.js";
import { type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkAxis } from "./running_norm.js";

export interface ResponseNormOptions {
  readonly alpha?: number;
  readonly beta?: number;
  /** Above 0: it is all there is to divide by where a window holds zeros. */
  readonly k?: number;
  /** "size" (default): alpha is divided by the window's number of elements. "none": it is not, as in TensorFlow.js. */
  readonly divide?: "size" | "none";
  /** Where a window of even size has its odd element: "left" as PyTorch, "right" as ONNX. */
  readonly lean?: Lean;
}

const defaults = {
  alpha: 1e-4,
  beta: 0.75,
  k: family.LocalResponseNorm.eps as number,
  divide: "size" as "size" | "none",
  lean: "left" as Lean,
};

function checked(owner: string, size: number, o: typeof defaults): ResponseOptions {
  checkPositiveInteger(`${owner}: size`, size);
  checkNonNegative(`${owner}: alpha`, o.alpha);
  checkNonNegative(`${owner}: beta`, o.beta);
  checkNumber(`${owner}: k`, o.k, "a finite number above 0", (v) => v > 0 && Number.isFinite(v));
  checkChoice(`${owner}: divide`, o.divide, ["size", "none"]);
  checkChoice(`${owner}: lean`, o.lean, ["left", "right"]);
  return { size, alpha: o.alpha, beta: o.beta, k: o.k, divide: o.divide, lean: o.lean };
}

/** x / (k + alpha / size * sum of squares)^beta over `size` neighbouring channels (axis 1 unless given). */
export function localResponseNorm(
  x: Tensor,
  size: number,
  options?: ResponseNormOptions & { readonly axis?: number },
): Tensor {
  const o = readOptions("F.localResponseNorm", options, { ...defaults, axis: 1 });
  const axis = checkAxis("F.localResponseNorm", o.axis);
  return localResponseNormOp(x, { ...checked("F.localResponseNorm", size, o), axis });
}

/** Windows around each element that raise a denominator; nothing is learned. */
abstract class ResponseNorm extends Module {
  alpha: number;
  beta: number;
  k: number;
  divide: "size" | "none";
  lean: Lean;

  constructor(
    layer: string,
    readonly size: number,
    o: typeof defaults & Required<PlacementOptions>,
  ) {
    super();
    readPlacement(o);
    const { alpha, beta, k, divide, lean } = checked(layer, size, o);
    this.alpha = alpha;
    this.beta = beta;
    this.k = k;
    this.divide = divide;
    this.lean = lean;
  }

  protected get response(): ResponseOptions {
    const { size, alpha, beta, k, divide, lean } = this;
    return { size, alpha, beta, k, divide, lean };
  }
}

export interface LocalResponseNormOptions extends ResponseNormOptions, PlacementOptions {
  /** The channel axis: 1 (default) for [N, C, ...], -1 for channels last. */
  readonly axis?: number;
}

/** Local response normalization across `size` neighbouring channels at each position. */
export class LocalResponseNorm extends ResponseNorm {
  readonly axis: number;

  constructor(size: number, options?: LocalResponseNormOptions) {
    const o = readOptions("LocalResponseNorm", options, { ...defaults, axis: 1, ...placementDefaults });
    super("LocalResponseNorm", size, o);
    this.axis = checkAxis("LocalResponseNorm", o.axis);
  }

  override forward(x: Tensor): Tensor {
    return localResponseNormOp(x, { ...this.response, axis: this.axis });
  }
}

export interface MapLRNOptions extends ResponseNormOptions, PlacementOptions {}

/** Local response normalization within each map, over `size` positions along each of one to three spatial axes. */
export class MapLRN extends ResponseNorm {
  constructor(size: number, options?: MapLRNOptions) {
    super("MapLRN", size, readOptions("MapLRN", options, { ...defaults, ...placementDefaults }));
  }

  override forward(x: Tensor): Tensor {
    checkRank("MapLRN", x.shape, family.MapLRN.ranks, family.MapLRN.layouts);
    return mapResponseNorm(x, this.response);
  }
}
