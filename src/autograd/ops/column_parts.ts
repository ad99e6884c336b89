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
      // With dy = 0, a variance of 1 and eps = 0, columnDx gives -(sum + (x - mean) sum') / m, the sums of a statistic's
      // channels taken together: they stand at its first channel.
      const length = statisticsOf(view);
      const sums = zeros([sumsOf(view)], { dtype: "float64" });
      const [to, from, half] = [sums.storage.view, d.storage.view, sums.size / 2];
      for (let s = 0; s < length; s++) {
        to[s * view.merge] = -from[s]!;
        to[half + s * view.merge] = -2 * from[length + s]!;
      }
      const one = full([length], 1, { dtype: "float64" });
      const counts = full([length], view.outer * view.merge * view.inner, { dtype: "float64" });
      const dx = Tensor.empty(x.shape, x.dtype);
      const stats = { mean: part(out, 0, length), variance: one.storage };
      const dy = zeros(x.shape, { dtype: x.dtype });
      kernels.columnDx(x.storage, dy.storage, null, stats, sums.storage, counts.storage, dx.storage, view, 0);
      return dx;
    },
  }),
  twiceDifferentiable: true,
});

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

/**
 * With few parameters all their gradients may be small by chance, and what the sums lack, in float32 for the most part,
 * shows; a kernel that adds up in float64 alone takes those, at the price of a pass. As many as in wasm/norm_affine.ts.
 */
const FEW = 8;

/** dweight = sum of dy * xhat and dbias = sum of dy. */
function affineGradients(dy: Tensor, { x, mean, variance }: Saved, { view, eps }: Options, sums: () => Tensor) {
  const { batch, channels, merge } = view;
  const fromPass = () => {
    const [weight, bias] = [Tensor.empty([channels], x.dtype), Tensor.empty([channels], x.dtype)];
    const out: NormGrads = { dx: null, dWeight: weight.storage, dBias: bias.storage };
    const stats = { mean: mean.storage, variance: variance.storage };
    kernels.columnNormGrad(x.storage, dy.storage, null, stats, out, view, eps, true);
    return { weight, bias };
  };
  const fromSums = () => {
    const [from, v] = [sums().storage.view, variance.storage.view];
    const [dWeight, dBias] = [new Float64Array(channels), new Float64Array(channels)];
    for (let at = 0; at < batch * channels; at++) {
      dBias[at % channels]! += from[at]!;
      dWeight[at % channels]! += from[batch * channels + at]! / Math.sqrt(v[Math.floor(at / merge)]! + eps);
    }
    return { weight: tensor(dWeight, { dtype: x.dtype }), bias: tensor(dBias, { dtype: x.dtype }) };
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
    /** Sum over the channels of a statistic of weight times what stands in half `half` of the sums. */
    const toStatistics = (half: 0 | 1, power: 1 | 3, scale: number) => {
      const d = zeros([mean.size], { dtype: "float64" });
      const plane = view.batch * view.channels;
      const from = sums().storage.view;
      const [to, v, ws] = [d.storage.view, variance.storage.view, weight?.storage.view];
      for (let at = 0; at < plane; at++) {
        const s = Math.floor(at / view.merge);
        const rho = 1 / Math.sqrt(v[s]! + eps);
        to[s]! += scale * rho ** power * (ws ? ws[at % view.channels]! : 1) * from[half * plane + at]!;
      }
      return d;
    };
    return {
      x: () => {
        const dx = Tensor.empty(x.shape, x.dtype);
        const out: NormGrads = { dx: dx.storage, dWeight: null, dBias: null };
        kernels.columnNormGrad(x.storage, dy.storage, weight?.storage ?? null, stats, out, view, eps, true);
        return dx;
      },
      mean: () => toStatistics(0, 1, -1),
      variance: () => toStatistics(1, 3, -0.5),
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
    // x's own, which gathering overwrites.
    const own = sums.storage.view.slice();
    const affine = affineGradients(dy, saved, options, () => tensor(own, { dtype: "float64" }));
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
