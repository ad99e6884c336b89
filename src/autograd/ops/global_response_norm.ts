import { normalizeAxis } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import { partOf, type Slot } from "../../memory/heap.js";
import { type ColumnView, groupColumns } from "../../norm/views.js";
import { tensor } from "../create.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { neutralStatistics } from "./channel_affine.js";
import { where } from "./elementwise.js";
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

/** Norms of each sample's channels over space, [batch, channels]; float64, so x up to 1e19 in float32 is well. */
function lengthsOf(x: Tensor, view: ColumnView): Tensor {
  const shape = [view.batch, view.channels];
  const [mean, variance] = [Tensor.empty(shape, "float64"), Tensor.empty(shape, "float64")];
  kernels.columnMoments(x.storage, { mean: mean.storage, variance: variance.storage }, view);
  return variance
    .add(mean.square())
    .mul(view.outer * view.inner)
    .sqrt();
}

/** Each sample's mean over channels, plus eps, [batch, 1]; Infinity where that is 0, and all lengths with it. */
function levelsOf(lengths: Tensor, eps: number): Tensor {
  const levels = lengths.mean(1, { keepDim: true }).add(eps);
  return where(levels.equal(0), Number.POSITIVE_INFINITY, levels);
}

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
    const factors = lengths.div(levelsOf(lengths, eps)).mul(weight.cast("float64")).add(1).cast(x.dtype);
    const biases = bias.expand(lengths.shape);
    const out = Tensor.empty(x.shape, x.dtype);
    const { mean, variance } = neutralStatistics(lengths.size);
    for (const piece of pieces(view)) {
      const part = (t: Tensor) => rowsOf(t, view.batch, piece.from, piece.to);
      const stats = { mean: part(mean), variance: part(variance) };
      kernels.columnNormEval(part(x), part(factors), part(biases), part(out), stats, piece.view, 0);
    }
    return { out, saved: { x, weight, lengths } };
  },
  backward(dy, { x, weight, lengths }, { axis, eps }) {
    const { view } = groupColumns(x.shape, weight.size, axis);
    const { mean, variance } = neutralStatistics(lengths.size);
    const sums = Tensor.empty([2, ...lengths.shape], "float64");
    kernels.columnSums(x.storage, dy.storage, { mean: mean.storage, variance: variance.storage }, sums.storage, view);
    const half = (i: 0 | 1) => sums.narrow(0, i, 1).reshape(lengths.shape);
    const levels = levelsOf(lengths, eps);
    return {
      x: () => gradientToX(dy, x, view, weight.cast("float64"), lengths, levels, half(1)),
      weight: () => half(1).mul(lengths.div(levels)).sum(0).cast(x.dtype),
      bias: () => half(0).sum(0).cast(x.dtype),
    };
  },
});

/** lengths and products [batch, channels], levels [batch, 1], weight [channels]: float64. */
function gradientToX(
  dy: Tensor,
  x: Tensor,
  view: ColumnView,
  weight: Tensor,
  lengths: Tensor,
  levels: Tensor,
  products: Tensor,
): Tensor {
  const weighed = products.mul(weight);
  const pull = weighed.mul(lengths).mean(1, { keepDim: true }).div(levels).div(levels);
  const slope = where(lengths.greater(0), weighed.div(levels).sub(pull).div(lengths), 0);
  // columnDx subtracts x * factor * sum / count from factor * dy: with sums of 1 and this count that is + slope * x.
  // A factor of 0 would take the count to 0 with it, so a small number stands for it, which dy cannot feel.
  const plain = lengths.div(levels).mul(weight).add(1).cast(x.dtype);
  const factors = where(plain.equal(0), 1e-30, plain);
  const counts = where(slope.equal(0), Number.POSITIVE_INFINITY, factors.cast("float64").div(slope).neg());
  const { mean, variance } = neutralStatistics(lengths.size);
  const dx = Tensor.empty(x.shape, x.dtype);
  for (const piece of pieces(view)) {
    const part = (t: Tensor) => rowsOf(t, view.batch, piece.from, piece.to);
    const size = piece.view.channels;
    const sums = tensor([[0], [1]], { dtype: "float64" }).expand([2, size]);
    const stats = { mean: part(mean), variance: part(variance) };
    const slots = [sums.storage, part(counts), part(dx)] as const;
    kernels.columnDx(part(x), part(dy), part(factors), stats, ...slots, piece.view, 0);
  }
  return dx;
}
