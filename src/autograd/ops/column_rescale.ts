import { kernels } from "../../kernels/dispatch.js";
import type { Stats } from "../../kernels/kernel_set.js";
import { partOf } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import { full, zeros } from "../create.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { checkInputs } from "./fused_norm.js";

/** What x is divided by: D(s), s the deviation of m values, that is, the root mean square of x - mean, or of x itself. */
export interface Divisor {
  readonly value: (s: number, m: number, eps: number) => number;
  /** D D'(s) / s, which is 1 for D = sqrt(s^2 + eps), and 0 where D is constant. */
  readonly feedback: (s: number, m: number, eps: number) => number;
}

/** weight and bias: [channels] of the view; eps: [1]. Each may be null. */
export type RescaleInputs = { x: Tensor; weight: Tensor | null; bias: Tensor | null; eps: Tensor | null };
export interface RescaleOptions {
  readonly view: ColumnView;
  /** Used where there is no tensor eps. */
  readonly eps: number;
}
/** stats [3, statistics]: means, D^2, feedback. */
type Saved = { x: Tensor; weight: Tensor | null; eps: Tensor | null; stats: Tensor };

/**
 * Division by a function of the deviation, other than the sqrt(s^2 + eps) that fused_norm.ts is made for. On a column
 * view whose statistics span m values (merge is 1):
 *   y = weight * (x - mean) / D(s) + bias, without centring mean = 0.
 * With S = sum of dy * (x - mean) over a statistic, c = D D' / s, and g = weight * dy:
 *   dx = (g - <g> - (x - mean) * weight * c * S / (m D^2)) / D; without centring <g> is absent.
 *   dweight = sum of S / D, dbias = sum of dy; deps = sum of -weight * S / D^2 * dD/deps, for D^2 = s^2 + |eps|.
 *
 * Shapes: x and y any that has the view's elements; weight and bias as above.
 * Saves:  x, weight, and three float64 numbers a statistic. Sums of squares are float64: x up to 1e19 in float32 is well.
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
      const stats = Tensor.empty([3, length], "float64");
      kernels.columnMoments(x.storage, statsIn(stats, length), view);
      const m = view.outer * view.inner;
      const e = eps ? eps.item() : constant;
      const to = stats.storage.view;
      for (let i = 0; i < length; i++) {
        const s = Math.sqrt(to[length + i]! + (centred ? 0 : to[i]! ** 2));
        const d = divisor.value(s, m, e);
        if (!centred) to[i] = 0;
        to[length + i] = d === 0 ? Number.POSITIVE_INFINITY : d * d;
        to[2 * length + i] = d === 0 ? 0 : divisor.feedback(s, m, e);
      }
      const out = Tensor.empty(x.shape, x.dtype);
      const slots = [x.storage, weight?.storage ?? null, bias?.storage ?? null, out.storage] as const;
      kernels.columnNormEval(...slots, statsIn(stats, length), view, 0);
      return { out, saved: { x, weight, eps, stats } };
    },
    backward(dy, { x, weight, eps, stats }, { view }) {
      const { batch, channels } = view;
      const length = batch * channels;
      const given = statsIn(stats, length);
      const sums = Tensor.empty([2, length], "float64");
      kernels.columnSums(x.storage, dy.storage, given, sums.storage, view);
      const of = stats.storage.view;
      const sum = sums.storage.view;
      const toAffine = (size: number, share: (i: number) => number): Tensor => {
        const d = zeros([size], { dtype: "float64" });
        const to = d.storage.view;
        for (let i = 0; i < length; i++) to[i % size]! += share(i);
        return d.cast(x.dtype);
      };
      return {
        x: () => {
          const fed = Tensor.empty([2, length], "float64");
          const to = fed.storage.view;
          for (let i = 0; i < length; i++) {
            to[i] = centred ? sum[i]! : 0;
            to[length + i] = sum[length + i]! * of[2 * length + i]!;
          }
          const counts = full([length], view.outer * view.inner, { dtype: "float64" });
          const dx = Tensor.empty(x.shape, x.dtype);
          const slots = [fed.storage, counts.storage, dx.storage] as const;
          kernels.columnDx(x.storage, dy.storage, weight?.storage ?? null, given, ...slots, view, 0);
          return dx;
        },
        weight: () => toAffine(channels, (i) => sum[length + i]! / Math.sqrt(of[length + i]!)),
        bias: () => toAffine(channels, (i) => sum[i]!),
        eps: () => {
          const w = weight?.storage.view;
          const slope = -0.5 * Math.sign(eps!.item());
          return toAffine(1, (i) => (slope * (w ? w[i % channels]! : 1) * sum[length + i]!) / of[length + i]! ** 1.5);
        },
      };
    },
  });
}

/** The first two rows of [3, statistics]. */
function statsIn({ storage }: Tensor, length: number): Stats {
  return { mean: partOf(storage, 0, length), variance: partOf(storage, length, length) };
}
