import { type Tensor, written } from "../../autograd/index.js";
import { checkClasses, crossEntropyRows, rowsOfClasses } from "../../autograd/ops/cross_entropy.js";
import { embedding } from "../../autograd/ops/embedding.js";
import { logSoftmax } from "../../autograd/ops/softmax.js";
import { type DType, isFloating } from "../../base/dtype.js";
import { ShapeError } from "../../base/errors.js";
import { checkProbability, readOptions } from "../../base/options.js";
import { formatShape, sameShape } from "../../base/shape.js";
import { heap } from "../../memory/heap.js";
import { Module } from "../module.js";
import { asPlaced, type PlacementOptions, placementDefaults, readPlacement } from "../placement.js";
import { checkReduction, forLoss, type Reduction, type ReductionOptions, reduceLoss } from "./reduction.js";

export interface CrossEntropyOptions extends ReductionOptions {
  /** A factor for each class, shape [C]. With "mean" the sum is divided by the targets' weights, not their number. */
  readonly weight?: Tensor | null;
  /** Targets with this number count for nothing. Default -100. */
  readonly ignoreIndex?: number;
  /** Share of each target's mass that is spread over all classes. Default 0. */
  readonly labelSmoothing?: number;
}

const defaults = {
  weight: null as Tensor | null,
  ignoreIndex: -100,
  reduction: "mean" as Reduction,
  labelSmoothing: 0,
};

/**
 * Cross entropy between logits and targets, softmax included.
 * Shapes: logits [N, C], [C] or [N, C, ...D]; target class numbers (int32) without the class axis, or probabilities in
 * the logits' shape. The mean is taken over the targets that are not ignored.
 */
export function crossEntropy(logits: Tensor, target: Tensor, options?: CrossEntropyOptions): Tensor {
  const o = readOptions("crossEntropy", options, defaults);
  const reduction = checkReduction("crossEntropy", o.reduction);
  checkProbability("crossEntropy labelSmoothing", o.labelSmoothing);
  const { rows, targetShape } = rowsOfClasses(logits);
  const classes = rows.shape[1]!;
  const weight = o.weight?.detach().cast(logits.dtype) ?? null;
  if (weight && !sameShape(weight.shape, [classes])) {
    throw new ShapeError({
      rule: `crossEntropy weight has one factor for each of the ${classes} classes, shape [${classes}]`,
      got: formatShape(weight.shape),
    });
  }
  if (isFloating(target.dtype) && sameShape(target.shape, logits.shape)) {
    const losses = probabilityLosses(forLoss(rows), rowsOfClasses(target).rows, o.labelSmoothing, weight);
    return reduceLoss(losses.reshape(targetShape), reduction);
  }
  checkClasses(target, targetShape, classes, o.ignoreIndex);
  const numbers = target.shareAs([rows.shape[0]!]);
  const factors = weight ? factorsOf(weight, numbers, o.ignoreIndex) : null;
  const losses = classLosses(rows, numbers, factors, { ...o, weight });
  if (reduction !== "mean") return reduceLoss(losses.reshape(targetShape), reduction);
  if (factors) return losses.sum().div(factors.sum());
  return losses.sum().div(countOf(numbers, o.ignoreIndex, losses.dtype));
}

/** How many targets are not ignored, as a tensor: a captured step counts anew, and a device counts by itself. */
function countOf(target: Tensor, ignoreIndex: number, dtype: DType): Tensor {
  const { storage } = target;
  if (storage.block) return target.notEqual(ignoreIndex).cast(dtype).sum();
  return written([], dtype, (to) => {
    let count = 0;
    for (const t of heap.view(storage)) if (t !== ignoreIndex) count++;
    to[0] = count;
  });
}

/** The class weight of each row's target, 0 where it is ignored. */
function factorsOf(weight: Tensor, target: Tensor, ignoreIndex: number): Tensor {
  const counts = target.notEqual(ignoreIndex);
  const known = embedding(target.mul(counts), weight.reshape([weight.size, 1])).reshape(target.shape);
  return known.mul(counts);
}

/** With class weights, w[c] multiplies the term of class c: the target's term and the terms spread over all classes differ. */
function classLosses(
  rows: Tensor,
  target: Tensor,
  factors: Tensor | null,
  o: { weight: Tensor | null; ignoreIndex: number; labelSmoothing: number },
): Tensor {
  const smoothing = o.labelSmoothing;
  const { ignoreIndex } = o;
  if (!factors) return crossEntropyRows({ logits: rows, target }, { smoothing, ignoreIndex });
  const hit = crossEntropyRows({ logits: rows, target }, { smoothing: 0, ignoreIndex }).mul(factors);
  if (smoothing === 0) return hit;
  const spread = logSoftmax(rows).mul(o.weight!).sum(1).neg().mul(target.notEqual(ignoreIndex));
  return hit.mul(1 - smoothing).add(spread.mul(smoothing / rows.shape[1]!));
}

function probabilityLosses(rows: Tensor, target: Tensor, smoothing: number, weight: Tensor | null): Tensor {
  const given = target.cast(rows.dtype);
  const smoothed = smoothing > 0 ? given.mul(1 - smoothing).add(smoothing / rows.shape[1]!) : given;
  const terms = logSoftmax(rows).mul(smoothed);
  return (weight ? terms.mul(weight) : terms).sum(1).neg();
}

/** `crossEntropy` with its options kept; see there. */
export class CrossEntropyLoss extends Module {
  readonly ignoreIndex: number;
  readonly reduction: Reduction;
  readonly labelSmoothing: number;
  declare readonly weight: Tensor | null;

  constructor(options?: CrossEntropyOptions & PlacementOptions) {
    super();
    const o = readOptions("CrossEntropyLoss", options, { ...defaults, ...placementDefaults });
    const placed = readPlacement(o);
    this.ignoreIndex = o.ignoreIndex;
    this.reduction = checkReduction("CrossEntropyLoss", o.reduction);
    this.labelSmoothing = checkProbability("CrossEntropyLoss labelSmoothing", o.labelSmoothing);
    this.registerBuffer("weight", asPlaced(o.weight, placed));
  }

  override forward(logits: Tensor, target: Tensor): Tensor {
    const { weight, ignoreIndex, reduction, labelSmoothing } = this;
    return crossEntropy(logits, target, { weight, ignoreIndex, reduction, labelSmoothing });
  }
}
