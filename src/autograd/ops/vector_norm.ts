import { isFloating } from "../../base/dtype.js";
import { DTypeError } from "../../base/errors.js";
import { axesView } from "../../norm/axes_view.js";
import type { Tensor } from "../tensor.js";
import { overAxes } from "./over_axes.js";
import { unitColumns, unitRows } from "./unit_vectors.js";

export interface VectorNormOptions {
  /** At least 0, or Infinity. */
  readonly p: number;
  /** Sorted, without repeats. */
  readonly axes: readonly number[];
  readonly eps: number;
}

/**
 * Unit vectors: y = x / max(||x||_p, eps), ||x||_p = (sum of |x|^p)^(1/p) over `axes`; for p = Infinity the largest |x|,
 * for p = 0 the number of x that are not 0. For p = 2:
 *   dx = (dy - y * sum of dy * y) / ||x||.
 * Where the norm is below eps it is the constant eps: a vector of zeros gives zeros, with dx = dy / eps. An x of 0 in
 * a longer vector adds nothing to the norm's gradient (for p <= 1 that is the choice of a subgradient); for p =
 * Infinity equal largest |x| share it.
 *
 * Shapes: x and y alike. Saves: for p = 2 x and one to three numbers a vector; else what the ops that it is made of save.
 * Throws: DTypeError if x is not of a floating type.
 * Source: torch.nn.functional.normalize.
 */
export function vectorNorm(x: Tensor, { p, axes, eps }: VectorNormOptions): Tensor {
  if (p === 2) {
    return overAxes(x, axesView(x.shape, axes), (t, view) => {
      if (view.batch === 1 && view.outer === 1) return unitRows({ x: t, scale: null }, { size: view.inner, eps });
      return unitColumns({ x: t, weight: null, bias: null, eps: null }, { view, eps });
    });
  }
  if (!isFloating(x.dtype)) {
    throw new DTypeError({ rule: "normalize takes float32 or float64", got: x.dtype, fix: 'Use x.to("float32")' });
  }
  if (x.size === 0) return x.mul(1);
  return x.div(lengthOf(x, p, axes).maximum(eps));
}

/** ||x||_p, axes kept with length 1. Powers are taken of |x| / max |x|, so that none overflows or vanishes altogether. */
function lengthOf(x: Tensor, p: number, axes: readonly number[]): Tensor {
  const size = x.abs();
  if (p === 0) return size.notEqual(0).detach().sum(axes, { keepDim: true });
  const largest = size.max(axes, { keepDim: true });
  if (p === Number.POSITIVE_INFINITY) return largest;
  if (p === 1) return size.sum(axes, { keepDim: true });
  // The norm is homogeneous, so the scale is a constant to the gradient. Zeros stand as ones where a slope is taken.
  const scale = largest.detach();
  const isZero = size.equal(0).detach();
  const empty = scale.equal(0);
  const sum = size.div(scale.add(empty)).add(isZero).pow(p).mul(isZero.logicalNot()).sum(axes, { keepDim: true });
  return sum
    .add(empty)
    .pow(1 / p)
    .mul(scale);
}
