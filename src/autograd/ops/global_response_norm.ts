import { normalizeAxis } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { partOf, type Slot } from "../../memory/heap.js";
import { type ColumnView, groupColumns } from "../../norm/views.js";
import { tensor, zeros } from "../create.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { neutralStatistics } from "./channel_affine.js";
import { checkInputs } from "./fused_norm.js";

type Inputs = { x: Tensor; weight: Tensor; bias: Tensor };

export interface GlobalResponseOptions {
  /** The channel axis; 1 for [N, C, ...], -1 for channels last. */
  readonly axis: number;
  readonly eps: number;
}

/** Rows `from` to `to` of an array of `rows` equal rows. */
function rowsOf({ storage }: Tensor, rows: number, from: number, to: number): Slot {
  const row = storage.length / rows;
  return partOf(storage, from * row, (to - from) * row);
}

/**
 * Views with one factor for each channel and no batch: all samples at once where a channel of a sample lies in one
 * piece, else sample by sample. `rows` counts in samples.
 */
function pieces({ batch, outer, channels, inner }: ColumnView): { view: ColumnView; from: number; to: number }[] {
  if (outer === 1)
    return [{ view: { batch: 1, outer: 1, channels: batch * channels, inner, merge: 1 }, from: 0, to: batch }];
  const view = { batch: 1, outer, channels, inner, merge: 1 };
  return Array.from({ length: batch }, (_, n) => ({ view, from: n, to: n + 1 }));
}

/** Norms of each sample's channels over space, [batch * channels]; float64, so x up to 1e19 in float32 is well. */
function lengthsOf(x: Tensor, view: ColumnView): Float64Array {
  const { mean, variance } = neutralStatistics(view.batch * view.channels);
  kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, view);
  const [of, squares] = [mean.storage.view, variance.storage.view];
  const m = view.outer * view.inner;
  return Float64Array.from(of, (v, i) => Math.sqrt(m * (squares[i]! + v * v)));
}

/** Each sample's mean over channels, plus eps. */
function levelsOf(lengths: Float64Array, { batch, channels }: ColumnView, eps: number): Float64Array {
  return Float64Array.from({ length: batch }, (_, n) => {
    const sample = lengths.subarray(n * channels, (n + 1) * channels);
    return sample.reduce((a, b) => a + b, 0) / channels + eps;
  });
}

/** G / (mean of G + eps); 0 where both are 0. */
const ratio = (length: number, level: number): number => (level === 0 ? 0 : length / level);

/**
 * Global response normalization: y = gamma * (x * N) + beta + x, N = G / (mean over channels of G + eps), G the Euclidean
 * norm of x over the positions of one sample and channel. With A = sum of dy * x over those positions, L = mean G + eps:
 *   dx = (1 + gamma N) dy + x dG / G, dG = gamma A / L - (mean over channels of gamma A G) / L^2,
 *   dgamma = sum over samples of A N, dbeta = sum of dy.
 * Where G is 0 its gradient counts as 0.
 *
 * Shapes: x and y [N, ..., C, ...] with C on `axis`; gamma (weight) and beta (bias) [C].
 * Saves:  x, weight and G, one float64 number for each sample and channel.
 * Source: Woo et al. 2023, arXiv:2301.00808.
 */
export const globalResponseNorm = defineOp<
  Inputs,
  GlobalResponseOptions,
  { x: Tensor; weight: Tensor; lengths: Tensor }
>({
  name: "global_response_norm",
  forward({ x, weight, bias }, { axis, eps }) {
    const channels = x.shape[normalizeAxis(axis, x.rank, "The channel axis")]!;
    checkInputs("global_response_norm", { x, weight, bias }, [channels]);
    const { view } = groupColumns(x.shape, channels, axis);
    const lengths = lengthsOf(x, view);
    const levels = levelsOf(lengths, view, eps);
    const [w, b] = [weight.storage.view, bias.storage.view];
    const factors = Tensor.empty([lengths.length], x.dtype);
    const biases = Tensor.empty([lengths.length], x.dtype);
    const [toFactor, toBias] = [factors.storage.view, biases.storage.view];
    for (let i = 0; i < lengths.length; i++) {
      const c = i % channels;
      toFactor[i] = 1 + w[c]! * ratio(lengths[i]!, levels[(i - c) / channels]!);
      toBias[i] = b[c]!;
    }
    const out = Tensor.empty(x.shape, x.dtype);
    const { mean, variance } = neutralStatistics(lengths.length);
    for (const piece of pieces(view)) {
      const part = (t: Tensor) => rowsOf(t, view.batch, piece.from, piece.to);
      const stats = { mean: part(mean), variance: part(variance) };
      kernels.columnNormEval(part(x), part(factors), part(biases), part(out), stats, piece.view, 0);
    }
    return { out, saved: { x, weight, lengths: tensor(lengths) } };
  },
  backward(dy, { x, weight, lengths }, { axis, eps }) {
    const channels = weight.size;
    const { view } = groupColumns(x.shape, channels, axis);
    const length = lengths.size;
    const { mean, variance } = neutralStatistics(length);
    const sums = Tensor.empty([2, length], "float64");
    kernels.columnSums(x.storage, dy.storage, { mean: mean.storage, variance: variance.storage }, sums.storage, view);
    const g = Float64Array.from(lengths.storage.view);
    const levels = levelsOf(g, view, eps);
    const sum = Float64Array.from(sums.storage.view);
    const w = Float64Array.from(weight.storage.view);
    const overSamples = (share: (i: number) => number): Tensor => {
      const d = zeros([channels], { dtype: "float64" });
      const to = d.storage.view;
      for (let i = 0; i < length; i++) to[i % channels]! += share(i);
      return d.cast(x.dtype);
    };
    return {
      x: () => gradientToX(dy, x, view, w, g, levels, sum.subarray(length)),
      weight: () => overSamples((i) => sum[length + i]! * ratio(g[i]!, levels[Math.floor(i / channels)]!)),
      bias: () => overSamples((i) => sum[i]!),
    };
  },
});

function gradientToX(
  dy: Tensor,
  x: Tensor,
  view: ColumnView,
  w: Float64Array,
  g: Float64Array,
  levels: Float64Array,
  products: Float64Array,
): Tensor {
  const { batch, channels } = view;
  const length = batch * channels;
  const factors = Tensor.empty([length], x.dtype);
  const to = factors.storage.view;
  const counts = Tensor.empty([batch, channels], "float64");
  const count = counts.storage.view;
  for (let n = 0; n < batch; n++) {
    const level = levels[n]!;
    let pull = 0;
    for (let c = 0; c < channels; c++) pull += w[c]! * products[n * channels + c]! * g[n * channels + c]!;
    pull /= channels * level * level;
    for (let c = 0; c < channels; c++) {
      const i = n * channels + c;
      const slope = g[i]! > 0 ? ((w[c]! * products[i]!) / level - pull) / g[i]! : 0;
      // columnDx subtracts x * factor * sum / count from factor * dy: with sums of 1 and this count that is + slope * x.
      // A factor of 0 would take the count to 0 with it, so the smallest number stands for it, which dy cannot feel.
      to[i] = 1 + w[c]! * ratio(g[i]!, level);
      if (to[i] === 0) to[i] = 1e-30;
      count[i] = slope === 0 ? Number.POSITIVE_INFINITY : -to[i]! / slope;
    }
  }
  const { mean, variance } = neutralStatistics(length);
  const dx = Tensor.empty(x.shape, x.dtype);
  for (const piece of pieces(view)) {
    const part = (t: Tensor) => rowsOf(t, batch, piece.from, piece.to);
    const size = piece.view.channels;
    const sums = zeros([2, size], { dtype: "float64" });
    sums.storage.view.fill(1, size);
    const stats = { mean: part(mean), variance: part(variance) };
    const slots = [sums.storage, part(counts), part(dx)] as const;
    kernels.columnDx(part(x), part(dy), part(factors), stats, ...slots, piece.view, 0);
  }
  return dx;
}
