import { kernels } from "../../kernels/dispatch.js";
import { partOf } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import { full, zeros } from "../create.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { where } from "./elementwise.js";
import { checkInputs } from "./fused_norm.js";

/**
 * What x is divided by: D(s), s the deviation of m values, that is, the root mean square of x - mean, or of x itself. Both
 * functions are of float64 tensors, one number for each statistic, off the tape; eps is a number or a tensor [1].
 */
export interface Divisor {
  /** D^2 from s^2. */
  readonly square: (squares: Tensor, m: number, eps: Tensor | number) => Tensor;
  /** D D'(s) / s, which is 1 for D = sqrt(s^2 + eps), and 0 where D is constant; null: 1 everywhere. */
  readonly feedback: ((squares: Tensor, m: number, eps: Tensor | number) => Tensor) | null;
}

/** weight and bias: [channels] of the view; eps: [1]. Each may be null. */
export type RescaleInputs = { x: Tensor; weight: Tensor | null; bias: Tensor | null; eps: Tensor | null };
export interface RescaleOptions {
  readonly view: ColumnView;
  /** Used where there is no tensor eps. */
  readonly eps: number;
}
/** Squares of what is above are far from 0 in float32. */
const TINY = 1e-15;

/** One float64 number a statistic each: mean, D^2, and feedback where it is not 1. */
type Saved = {
  x: Tensor;
  weight: Tensor | null;
  eps: Tensor | null;
  mean: Tensor;
  square: Tensor;
  feedback: Tensor | null;
};

/**
 * Division by a function of the deviation, other than the sqrt(s^2 + eps) that fused_norm.ts is made for. On a column
 * view whose statistics span m values (merge is 1):
 *   y = weight * (x - mean) / D(s) + bias, without centring mean = 0.
 * With S = sum of dy * (x - mean) over a statistic, c = D D' / s, and g = weight * dy:
 *   dx = (g - <g> - (x - mean) * weight * c * S / (m D^2)) / D; without centring <g> is absent.
 *   dweight = sum of S / D, dbias = sum of dy; deps = sum of -weight * S / D^2 * dD/deps, for D^2 = s^2 + |eps|.
 *
 * Shapes: x and y any that has the view's elements; weight and bias as above.
 * Saves:  x, weight, and two or three float64 numbers a statistic. Sums of squares are float64: x up to 1e19 in float32 is well.
 * A statistic whose D is 0 (all of its x 0, and eps 0) has y = bias and no gradient to x.
 */
export function defineRescale(
  name: string,
  divisor: Divisor,
  centred: boolean,
): Op<RescaleInputs, RescaleOptions, undefined> {
  return defineOp<RescaleInputs, RescaleOptions, Saved>({
    name,
    forward({ x, weight, bias, eps }, { view, eps: constant }) {
      checkInputs(name, { x, weight, bias, eps });
      const length = view.batch * view.channels;
      const [own, variance] = [Tensor.empty([length], "float64"), Tensor.empty([length], "float64")];
      kernels.columnMoments(x.storage, { mean: own.storage, variance: variance.storage }, view);
      const mean = centred ? own : zeros([length], { dtype: "float64" });
      const squares = centred ? variance : variance.add(own.square());
      const m = view.outer * view.inner;
      const e = eps ? eps.cast("float64") : constant;
      const divided = divisor.square(squares, m, e);
      // Only an eps of 0 (or whose square is that on some device) leaves a divisor of 0.
      const square = !eps && constant > TINY ? divided : where(divided.equal(0), Number.POSITIVE_INFINITY, divided);
      const feedback = divisor.feedback?.(squares, m, e) ?? null;
      const out = Tensor.empty(x.shape, x.dtype);
      const slots = [x.storage, weight?.storage ?? null, bias?.storage ?? null, out.storage] as const;
      kernels.columnNormEval(...slots, { mean: mean.storage, variance: square.storage }, view, 0);
      return { out, saved: { x, weight, eps, mean, square, feedback } };
    },
    backward(dy, { x, weight, eps, mean, square, feedback }, { view }) {
      const { batch, channels } = view;
      const length = batch * channels;
      const given = { mean: mean.storage, variance: square.storage };
      const both = Tensor.empty([2, length], "float64");
      kernels.columnSums(x.storage, dy.storage, given, both.storage, view);
      const half = (index: 0 | 1) => both.narrow(0, index, 1).reshape([length]);
      const perChannel = (t: Tensor) => t.reshape([batch, channels]);
      return {
        x: () => {
          const fed = Tensor.empty([2, length], "float64");
          const [first, second] = [partOf(fed.storage, 0, length), partOf(fed.storage, length, length)];
          if (centred) kernels.cast(partOf(both.storage, 0, length), first);
          else kernels.fill(first, 0);
          const products = feedback ? half(1).mul(feedback) : half(1);
          kernels.cast(products.storage, second);
          const counts = full([length], view.outer * view.inner, { dtype: "float64" });
          const dx = Tensor.empty(x.shape, x.dtype);
          const slots = [fed.storage, counts.storage, dx.storage] as const;
          kernels.columnDx(x.storage, dy.storage, weight?.storage ?? null, given, ...slots, view, 0);
          return dx;
        },
        weight: () => perChannel(half(1).div(square.sqrt())).sum(0).cast(x.dtype),
        bias: () => perChannel(half(0)).sum(0).cast(x.dtype),
        eps: () => {
          const each = perChannel(half(1).div(square).div(square.sqrt()));
          const all = (weight ? each.mul(weight.cast("float64")) : each).sum().reshape([1]);
          return all.cast(x.dtype).mul(eps!.sign()).mul(-0.5);
        },
      };
    },
  });
}
