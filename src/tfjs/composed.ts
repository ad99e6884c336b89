import {
  add,
  cast,
  div,
  maximum,
  mean,
  mul,
  reshape,
  rsqrt,
  square,
  sub,
  sum,
  type Tensor,
  transpose,
  where,
  zerosLike,
} from "@tensorflow/tfjs-core";
import { layoutOf } from "../autograd/ops/norm_definition.js";
import { numberOfElements } from "../base/shape.js";
import { inverseOrder, type Normalized, type NormRequest } from "./plan.js";

/**
 * Normalization put together from TensorFlow.js's ops, whose gradients it differentiates by, as often as it is asked.
 *
 * The mean is taken away twice: what the first leaves has a mean of the size of the first one's rounding, which the second
 * knows as well as the spread. The variance is the mean of the squares of that. tf.moments takes the mean
 * away once: TensorFlow.js's own layers lose 1e-4 to 1e-3 of y where the mean is 1e4 standard deviations.
 */
export function normalizeComposed({ x, gamma, beta, plan, given, mask }: NormRequest): Normalized {
  const { shape, axes, statistics, affine } = layoutOf(plan.on);
  const flat = [numberOfElements(statistics)];
  const ordered = plan.order ? transpose(x, [...plan.order]) : x;
  const seen = reshape(ordered, [...shape]);
  const average = mask
    ? averageOf(
        reshape(
          mask.positions,
          shape.map((d, i) => (axes.includes(i) ? d : 1)),
        ),
        axes,
      )
    : (t: Tensor) => mean(t, [...axes], true);
  const beside = (t: Tensor) => reshape(t, [...statistics]);

  let centred = seen;
  let middle: Tensor | null = null;
  let variance: Tensor;
  if (given) {
    centred = sub(seen, beside(given.mean));
    variance = beside(given.variance);
  } else {
    if (plan.centred) {
      const first = average(seen);
      const rest = sub(seen, first);
      const second = average(rest);
      centred = sub(rest, second);
      middle = reshape(add(first, second), flat);
    }
    variance = average(square(centred));
  }
  let y = mul(centred, rsqrt(add(variance, plan.eps)));
  if (gamma) y = mul(y, reshape(gamma, [...affine]));
  if (beta) y = add(y, reshape(beta, [...affine]));
  y = reshape(y, ordered.shape);
  if (plan.order) y = transpose(y, inverseOrder(plan.order));
  return { y, mean: middle, variance: reshape(variance, flat) };
}

/** Means over the places that count, 0 where none does. What the others hold, NaN for example, does not reach the sum. */
function averageOf(valid: Tensor, axes: readonly number[]): (t: Tensor) => Tensor {
  const count = maximum(sum(cast(valid, "float32"), [...axes], true), 1);
  return (t) => div(sum(where(valid, t, zerosLike(t)), [...axes], true), count);
}
