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

/** dx = weight * rho * dy, as where the statistics are constants. */
function throughConstants(dy: Tensor, { x, mean, variance, weight }: Saved, { view, eps }: Options): Tensor {
  const dx = Tensor.empty(x.shape, x.dtype);
  const out: NormGrads = { dx: dx.storage, dWeight: null, dBias: null };
  const stats = { mean: mean.storage, variance: variance.storage };
  kernels.columnNormGrad(x.storage, dy.storage, weight?.storage ?? null, stats, out, view, eps, true);
  return dx;
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

interface AffineGradients {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

function affineFromPass(dy: Tensor, { x, mean, variance }: Saved, { view, eps }: Options): AffineGradients {
  const [weight, bias] = [Tensor.empty([view.channels], x.dtype), Tensor.empty([view.channels], x.dtype)];
  const out: NormGrads = { dx: null, dWeight: weight.storage, dBias: bias.storage };
  const stats = { mean: mean.storage, variance: variance.storage };
  kernels.columnNormGrad(x.storage, dy.storage, null, stats, out, view, eps, true);
  return { weight, bias };
}

function affineFromSums(all: Tensor, { x, variance }: Saved, { view, eps }: Options): AffineGradients {
  const [sum, products] = sumsIn(all, view);
  const rho = variance.add(eps).rsqrt().reshape([variance.size, 1]);
  const overBatch = (t: Tensor) => t.reshape([view.batch, view.channels]).sum(0).cast(x.dtype);
  return { weight: overBatch(products.mul(rho)), bias: overBatch(sum) };
}

/** Thunks for a gradient each; what they share is made once. */
function affineThunks(make: () => AffineGradients) {
  let made: AffineGradients | undefined;
  const all = () => (made ??= make());
  return { weight: () => all().weight, bias: () => all().bias };
}

/** dweight = sum of dy * xhat and dbias = sum of dy. */
const affineGradients = (dy: Tensor, saved: Saved, options: Options, sums: () => Tensor) =>
  affineThunks(() =>
    options.view.channels <= FEW ? affineFromPass(dy, saved, options) : affineFromSums(sums(), saved, options),
  );

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
    const { variance, weight } = saved;
    const { view, eps } = options;
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
      x: () => throughConstants(dy, saved, options),
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

/** What holders of the values behind common statistics do together in a backward pass. */
export interface Gathering {
  /** Adds, in place, the other holders' numbers to these. Called once a backward pass, whatever is asked of it. */
  readonly add: (own: Float64Array) => void;
  /** null: dweight and dbias are of x's own elements. Else of the elements of all holders, times this. */
  readonly affine: number | null;
}

/** Statistics of a set of values that x's are among. */
interface WiderOptions extends Options {
  readonly gather?: Gathering;
}

/**
 * The sums of dy and of dy * (x - mean), flat, of all holders, and dweight and dbias. Where these are of all too, they follow
 * from the sums, or are sent beside them.
 */
function gatherSums(dy: Tensor, saved: Saved, { gather, ...options }: WiderOptions) {
  const own = sumsOver(dy, saved, options.view);
  if (!gather) return { sums: own, ...affineGradients(dy, saved, options, () => own) };
  const { add, affine } = gather;
  if (affine === null) {
    // x's own: adding overwrites them.
    const sums = own.mul(1);
    add(sums.storage.view as Float64Array);
    return { sums, ...affineGradients(dy, saved, options, () => own) };
  }
  const scaled = ({ weight, bias }: AffineGradients) =>
    affine === 1 ? { weight, bias } : { weight: weight.mul(affine), bias: bias.mul(affine) };
  const { channels } = options.view;
  if (channels > FEW) {
    add(own.storage.view as Float64Array);
    return { sums: own, ...affineThunks(() => scaled(affineFromSums(own, saved, options))) };
  }
  const { weight, bias } = affineFromPass(dy, saved, options);
  const all = own.concat(weight.cast("float64")).concat(bias.cast("float64"));
  add(all.storage.view as Float64Array);
  const part = (from: number) => all.narrow(0, own.size + from, channels).cast(saved.x.dtype);
  return {
    sums: all.narrow(0, 0, own.size),
    ...affineThunks(() => scaled({ weight: part(0), bias: part(channels) })),
  };
}

type WiderInputs = Inputs & { counts: Tensor };
type WiderSaved = Saved & { counts: Tensor };

/**
 * The gradients of normalizeAmong; the sums are gathered at once, each gradient when it is asked for. dx may lie in dy's memory, by
 * `into`, where dweight and dbias are asked for first.
 */
export function gradientsAmong(dy: Tensor, saved: WiderSaved, options: WiderOptions, into?: Tensor) {
  const { x, mean, variance, weight, counts } = saved;
  const { view, eps } = options;
  const { sums, ...affine } = gatherSums(dy, saved, options);
  return {
    x: () => {
      const dx = into ?? Tensor.empty(x.shape, x.dtype);
      const stats = { mean: mean.storage, variance: variance.storage };
      const slots = [sums.storage, counts.storage, dx.storage] as const;
      kernels.columnDx(x.storage, dy.storage, weight?.storage ?? null, stats, ...slots, view, eps);
      return dx;
    },
    ...affine,
  };
}

/**
 * The same where mean and variance were taken from x together with other values, `counts` in all for each statistic,
 * and a gradient to them is a gradient to x. With the sums gathered over all those values:
 * dx = rho * (g - sum(g) / count - xhat * sum(g * xhat) / count). Once differentiable: how the statistics depend on x is the
 * caller's knowledge.
 *
 * Shapes: as above; counts [statistics], float64.
 */
export const normalizeAmong = defineOp<WiderInputs, WiderOptions, WiderSaved>({
  name: "normalize_among",
  forward: (inputs, options) => ({ out: apply(inputs, options), saved: inputs }),
  backward: (dy, saved, options) => gradientsAmong(dy, saved, options),
});

type BesideInputs = WiderInputs & { valid: Tensor };
interface BesideOptions extends WiderOptions {
  /** Of `valid`; `view` is x's. One channel to a statistic in both, batch 1. */
  readonly on: ColumnView;
}

/**
 * The same where the statistics were taken from `valid` (values of x, say) together with others, `counts` in all: x itself sees
 * constants, dx = rho * g, and dvalid = -rho * (sum(g) + xhat * sum(g * xhat)) / count, the sums over all that was normalized.
 *
 * Shapes: as above; valid any that has the elements of `on`.
 */
export const normalizeBeside = defineOp<BesideInputs, BesideOptions, WiderSaved & { valid: Tensor }>({
  name: "normalize_beside",
  forward: (inputs, options) => ({ out: apply(inputs, options), saved: inputs }),
  backward(dy, saved, options) {
    const { mean, variance, weight, counts, valid } = saved;
    const { view, eps, on } = options;
    const { sums, ...affine } = gatherSums(dy, saved, options);
    return {
      x: () => throughConstants(dy, saved, options),
      valid: () => {
        const length = statisticsOf(view);
        const rho = variance.add(eps).rsqrt();
        const slope = weight ? rho.mul(weight.cast("float64")) : rho;
        const pulls = sums.reshape([2, length]);
        const half = (i: number) => pulls.narrow(0, i, 1).mul(slope);
        const d = half(0).neg().concat(half(1).mul(rho.square()).mul(-0.5));
        const moments = mean.reshape([1, length]).concat(variance.reshape([1, length]));
        return momentsSlope(d, valid, moments, counts, on);
      },
      ...affine,
    };
  },
});
