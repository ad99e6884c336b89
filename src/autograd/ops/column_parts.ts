import { kernels } from "../../kernels/dispatch.js";
import type { NormGrads } from "../../kernels/kernel_set.js";
import { partOf, type Slot } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import { full, tensor, zeros } from "../create.js";
import { isRecording } from "../graph.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { momentsGradient, standardizeGradients } from "./column_definition.js";

// The parts that column normalization is made of, for statistics that are not x's own alone: mixed from several kinds, or
// merged with those of other batches or ranks. Statistics are flat and float64, [batch * channels / merge] of them.

const statisticsOf = ({ batch, channels, merge }: ColumnView): number => (batch * channels) / merge;
const sumsOf = ({ batch, channels }: ColumnView): number => 2 * batch * channels;

/** Part `index` of several arrays of equal length that lie one behind the other. */
const part = ({ storage }: Tensor, index: number, length: number): Slot => partOf(storage, index * length, length);

/**
 * Mean and biased variance of each statistic of a column view, differentiable. With m values to a statistic,
 * dx = (dmean + 2 (x - mean) dvariance) / m.
 *
 * Shapes: x any that has the view's elements; the result [2, statistics], float64: means, then variances.
 * Saves:  x and the result.
 */
export const columnMoments = defineOp<{ x: Tensor }, { readonly view: ColumnView }, { x: Tensor; out: Tensor }>({
  name: "column_moments",
  forward({ x }, { view }) {
    const length = statisticsOf(view);
    const out = Tensor.empty([2, length], "float64");
    kernels.columnMoments(x.storage, { mean: part(out, 0, length), variance: part(out, 1, length) }, view);
    return { out, saved: { x, out } };
  },
  backward: (d, { x, out }, { view }) => ({
    x: () => {
      if (isRecording()) return momentsGradient(d, x, view);
      const counts = full([statisticsOf(view)], view.outer * view.merge * view.inner, { dtype: "float64" });
      return momentsSlope(d, x, out, counts, view);
    },
  }),
  twiceDifferentiable: true,
});

/** (dmean + 2 (x - mean) dvariance) / count. Shapes: d and moments [2, statistics], counts [statistics], float64; the result as x. */
export function momentsSlope(d: Tensor, x: Tensor, moments: Tensor, counts: Tensor, view: ColumnView): Tensor {
  // With dy = 0, a variance of 1 and eps = 0, columnDx gives -(sum + (x - mean) sum') / m, the sums of a statistic's
  // channels taken together: they stand at its first channel.
  const length = statisticsOf(view);
  const pulls = d.mul(tensor([[-1], [-2]], { dtype: "float64" }));
  const none = [0, 0] as const;
  const sums = pulls.reshape([2, length, 1]).pad([none, none, [0, view.merge - 1]]);
  const one = full([length], 1, { dtype: "float64" });
  const dx = Tensor.empty(x.shape, x.dtype);
  const stats = { mean: part(moments, 0, length), variance: one.storage };
  const dy = zeros(x.shape, { dtype: x.dtype });
  kernels.columnDx(x.storage, dy.storage, null, stats, sums.storage, counts.storage, dx.storage, view, 0);
  return dx;
}

type Inputs = { x: Tensor; mean: Tensor; variance: Tensor; weight: Tensor | null; bias: Tensor | null };
type Saved = Omit<Inputs, "bias">;
interface Options {
  readonly view: ColumnView;
  readonly eps: number;
}

function apply({ x, mean, variance, weight, bias }: Inputs, { view, eps }: Options): Tensor {
  const y = Tensor.empty(x.shape, x.dtype);
  const stats = { mean: mean.storage, variance: variance.storage };
  kernels.columnNormEval(x.storage, weight?.storage ?? null, bias?.storage ?? null, y.storage, stats, view, eps);
  return y;
}

/** Sums of dy and of dy * (x - mean) for each channel of each batch entry, float64, flat. */
function sumsOver(dy: Tensor, { x, mean, variance }: Saved, view: ColumnView): Tensor {
  const sums = Tensor.empty([sumsOf(view)], "float64");
  const stats = { mean: mean.storage, variance: variance.storage };
  kernels.columnSums(x.storage, dy.storage, stats, sums.storage, view);
  return sums;
}

/** Each half of the sums, a row for each statistic with the channels that share it. */
function sumsIn(sums: Tensor, view: ColumnView): [Tensor, Tensor] {
  const shape = [statisticsOf(view), view.merge];
  const halves = sums.reshape([2, ...shape]);
  const half = (i: number) => halves.narrow(0, i, 1).reshape(shape);
  return [half(0), half(1)];
}

/**
 * With few parameters all their gradients may be small by chance, and what the sums lack, in float32 for the most part,
 * shows; a kernel that adds up in float64 alone takes those, at the price of a pass. As many as in wasm/norm_affine.ts.
 */
const FEW = 8;

/** dweight = sum of dy * xhat and dbias = sum of dy. */
function affineGradients(dy: Tensor, { x, mean, variance }: Saved, { view, eps }: Options, sums: () => Tensor) {
  const { batch, channels } = view;
  const fromPass = () => {
    const [weight, bias] = [Tensor.empty([channels], x.dtype), Tensor.empty([channels], x.dtype)];
    const out: NormGrads = { dx: null, dWeight: weight.storage, dBias: bias.storage };
    const stats = { mean: mean.storage, variance: variance.storage };
    kernels.columnNormGrad(x.storage, dy.storage, null, stats, out, view, eps, true);
    return { weight, bias };
  };
  const fromSums = () => {
    const [sum, products] = sumsIn(sums(), view);
    const rho = variance.add(eps).rsqrt().reshape([variance.size, 1]);
    const overBatch = (t: Tensor) => t.reshape([batch, channels]).sum(0).cast(x.dtype);
    return { weight: overBatch(products.mul(rho)), bias: overBatch(sum) };
  };
  let made: { weight: Tensor; bias: Tensor } | undefined;
  const all = () => (made ??= channels <= FEW ? fromPass() : fromSums());
  return { weight: () => all().weight, bias: () => all().bias };
}

/**
 * y = weight * (x - mean) * rho + bias, rho = 1 / sqrt(variance + eps), with a gradient to the statistics too. With
 * g = weight * dy: dx = rho * g, dmean = -rho * sum(g), dvariance = -rho^3 / 2 * sum(g * (x - mean)).
 *
 * Shapes: x and y any that has the view's elements; mean and variance [statistics], float64; weight and bias [channels].
 * Saves:  all inputs but bias.
 */
export const standardize = defineOp<Inputs, Options, Saved>({
  name: "standardize",
  forward: (inputs, options) => ({ out: apply(inputs, options), saved: inputs }),
  backward(dy, saved, options) {
    if (isRecording()) return standardizeGradients(dy, saved, options);
    const { x, mean, variance, weight } = saved;
    const { view, eps } = options;
    const stats = { mean: mean.storage, variance: variance.storage };
    let summed: Tensor | undefined;
    const sums = () => (summed ??= sumsOver(dy, saved, view));
    const affine = affineGradients(dy, saved, options, sums);
    const rho = () => variance.add(eps).rsqrt();
    /** Sum over the channels of a statistic of weight times what stands in a half of the sums. */
    const toStatistics = (half: 0 | 1) => {
      const each = sumsIn(sums(), view)[half];
      const weighed = weight
        ? each.reshape([view.batch, view.channels]).mul(weight.cast("float64")).reshape(each.shape)
        : each;
      return weighed.sum(1);
    };
    return {
      x: () => {
        const dx = Tensor.empty(x.shape, x.dtype);
        const out: NormGrads = { dx: dx.storage, dWeight: null, dBias: null };
        kernels.columnNormGrad(x.storage, dy.storage, weight?.storage ?? null, stats, out, view, eps, true);
        return dx;
      },
      mean: () => toStatistics(0).mul(rho()).neg(),
      variance: () => {
        const root = rho();
        return toStatistics(1).mul(root).mul(root.square()).mul(-0.5);
      },
      ...affine,
    };
  },
  twiceDifferentiable: true,
});

/** Statistics of a set of values that x's are among. */
interface WiderOptions extends Options {
  /** Adds, in place, the other holders' sums to x's own: of dy and of dy * (x - mean), flat, float64. */
  readonly gather?: (sums: Tensor) => void;
}

type WiderInputs = Inputs & { counts: Tensor };

/**
 * The same where mean and variance were taken from x together with other values, `counts` in all for each statistic,
 * and a gradient to them is a gradient to x. With the sums gathered over all those values:
 * dx = rho * (g - sum(g) / count - xhat * sum(g * xhat) / count). dweight and dbias come from x's own sums. Once
 * differentiable: how the statistics depend on x is the caller's knowledge.
 *
 * Shapes: as above; counts [statistics], float64.
 */
export const normalizeAmong = defineOp<WiderInputs, WiderOptions, Saved & { counts: Tensor }>({
  name: "normalize_among",
  forward: (inputs, options) => ({ out: apply(inputs, options), saved: inputs }),
  backward(dy, saved, options) {
    const { x, mean, variance, weight, counts } = saved;
    const { view, eps, gather } = options;
    const sums = sumsOver(dy, saved, view);
    // x's own: gathering overwrites them.
    const own = gather ? sums.mul(1) : sums;
    const affine = affineGradients(dy, saved, options, () => own);
    // All holders gather or none does, whatever each of them needs.
    gather?.(sums);
    return {
      x: () => {
        const dx = Tensor.empty(x.shape, x.dtype);
        const stats = { mean: mean.storage, variance: variance.storage };
        const slots = [sums.storage, counts.storage, dx.storage] as const;
        kernels.columnDx(x.storage, dy.storage, weight?.storage ?? null, stats, ...slots, view, eps);
        return dx;
      },
      ...affine,
    };
  },
});
