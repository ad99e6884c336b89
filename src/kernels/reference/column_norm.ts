import type { NumberArray } from "../../base/dtype.js";
import type { Slot } from "../../memory/heap.js";
import { heap } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import type { KernelSet } from "../kernel_set.js";
import { activation as activations, curveGradOf } from "./activation.js";

/** Calls `visit` with the index into x, the affine index and the statistic index of each element, in memory order. */
function eachElement(view: ColumnView, visit: (i: number, c: number, stat: number) => void): void {
  const { batch, outer, channels, inner, merge } = view;
  const groups = channels / merge;
  let i = 0;
  for (let b = 0; b < batch; b++) {
    for (let o = 0; o < outer; o++) {
      for (let c = 0; c < channels; c++) {
        const stat = b * groups + Math.floor(c / merge);
        for (let e = 0; e < inner; e++) visit(i++, c, stat);
      }
    }
  }
}

const viewOf = (slot: Slot | null): NumberArray | null => (slot ? heap.view(slot) : null);
const rootsOf = (variance: NumberArray, eps: number): Float64Array =>
  Float64Array.from(variance, (v) => 1 / Math.sqrt(v + eps));

type Kernels = Pick<
  KernelSet,
  "columnNorm" | "columnNormEval" | "columnNormGrad" | "columnMoments" | "columnSums" | "columnDx" | "updateRunning"
>;

export const columnNorm: Kernels = {
  columnNorm(x, weight, bias, y, stats, view, eps, activation) {
    columnNorm.columnMoments(x, stats, view);
    columnNorm.columnNormEval(x, weight, bias, y, stats, view, eps, activation);
  },

  columnMoments(x, stats, view) {
    const xs = heap.view(x);
    const mean = heap.view(stats.mean);
    const variance = heap.view(stats.variance);
    const count = view.outer * view.merge * view.inner;
    // The mean is kept in doubles for the second pass, whatever the type of its slot.
    const means = new Float64Array(mean.length);
    const rests = new Float64Array(mean.length);
    const squares = new Float64Array(mean.length);
    eachElement(view, (i, _, stat) => {
      means[stat]! += xs[i]!;
    });
    for (let s = 0; s < means.length; s++) means[s]! /= count;
    eachElement(view, (i, _, stat) => {
      const d = xs[i]! - means[stat]!;
      rests[stat]! += d;
      squares[stat]! += d * d;
    });
    // What the rounding of a mean left is put right, so that equal float64 values have exactly that mean.
    for (let s = 0; s < means.length; s++) {
      const rest = rests[s]! / count;
      mean[s] = means[s]! + rest;
      variance[s] = Math.max(0, squares[s]! / count - rest * rest);
    }
  },

  columnNormEval(x, weight, bias, y, stats, view, eps, activation) {
    const xs = heap.view(x);
    const ys = heap.view(y);
    const ws = viewOf(weight);
    const bs = viewOf(bias);
    const mean = heap.view(stats.mean);
    const rstd = rootsOf(heap.view(stats.variance), eps);
    eachElement(view, (i, c, stat) => {
      const xhat = (xs[i]! - mean[stat]!) * rstd[stat]!;
      ys[i] = (ws ? ws[c]! : 1) * xhat + (bs ? bs[c]! : 0);
    });
    if (activation) activations.activation(activation.op, y, y, activation.alpha);
  },

  columnNormGrad(x, dy, weight, stats, out, view, eps, frozen, activation) {
    const xs = heap.view(x);
    const ws = viewOf(weight);
    const dx = viewOf(out.dx);
    const mean = heap.view(stats.mean);
    const rstd = rootsOf(heap.view(stats.variance), eps);
    let dys = heap.view(dy);
    if (activation) {
      const bs = viewOf(activation.bias);
      const through = curveGradOf(activation.op, activation.alpha);
      const dzs = new Float64Array(dys.length);
      eachElement(view, (i, c, stat) => {
        const xhat = (xs[i]! - mean[stat]!) * rstd[stat]!;
        dzs[i] = through((ws ? ws[c]! : 1) * xhat + (bs ? bs[c]! : 0), dys[i]!);
      });
      dys = dzs;
    }
    const count = view.outer * view.merge * view.inner;
    const dWeight = new Float64Array(view.channels);
    const dBias = new Float64Array(view.channels);
    const sumG = new Float64Array(mean.length); // of g = weight * dy, and of g * xhat
    const sumGX = new Float64Array(mean.length);
    eachElement(view, (i, c, stat) => {
      const xhat = (xs[i]! - mean[stat]!) * rstd[stat]!;
      const g = (ws ? ws[c]! : 1) * dys[i]!;
      dWeight[c]! += dys[i]! * xhat;
      dBias[c]! += dys[i]!;
      sumG[stat]! += g;
      sumGX[stat]! += g * xhat;
    });
    if (out.dWeight) heap.view(out.dWeight).set(dWeight);
    if (out.dBias) heap.view(out.dBias).set(dBias);
    if (!dx) return;
    eachElement(view, (i, c, stat) => {
      const xhat = (xs[i]! - mean[stat]!) * rstd[stat]!;
      const g = (ws ? ws[c]! : 1) * dys[i]!;
      dx[i] = rstd[stat]! * (frozen ? g : g - sumG[stat]! / count - xhat * (sumGX[stat]! / count));
    });
  },

  columnSums(x, dy, stats, sums, view) {
    const xs = heap.view(x);
    const dys = heap.view(dy);
    const mean = heap.view(stats.mean);
    const to = heap.view(sums).fill(0);
    const { channels, merge } = view;
    const plane = view.batch * channels;
    eachElement(view, (i, c, stat) => {
      const at = Math.floor((stat * merge) / channels) * channels + c;
      to[at]! += dys[i]!;
      to[plane + at]! += dys[i]! * (xs[i]! - mean[stat]!);
    });
  },

  columnDx(x, dy, weight, stats, sums, counts, dx, view, eps) {
    const xs = heap.view(x);
    const dys = heap.view(dy);
    const ws = viewOf(weight);
    const to = heap.view(dx);
    const mean = heap.view(stats.mean);
    const rstd = rootsOf(heap.view(stats.variance), eps);
    const given = heap.view(sums);
    const count = heap.view(counts);
    const { channels, merge } = view;
    const plane = view.batch * channels;
    const sumG = new Float64Array(mean.length); // of g = weight * dy, and of g * xhat
    const sumGX = new Float64Array(mean.length);
    for (let at = 0; at < plane; at++) {
      const stat = Math.floor(at / merge);
      const w = ws ? ws[at % channels]! : 1;
      sumG[stat]! += w * given[at]!;
      sumGX[stat]! += w * given[plane + at]! * rstd[stat]!;
    }
    eachElement(view, (i, c, stat) => {
      const xhat = (xs[i]! - mean[stat]!) * rstd[stat]!;
      const g = (ws ? ws[c]! : 1) * dys[i]!;
      to[i] = rstd[stat]! * (g - sumG[stat]! / count[stat]! - xhat * (sumGX[stat]! / count[stat]!));
    });
  },

  updateRunning(running, batch, repeat, weight, scale) {
    const to = heap.view(running);
    const from = heap.view(batch);
    const length = to.length;
    for (let c = 0; c < length; c++) {
      let sum = 0;
      for (let r = 0; r < repeat; r++) sum += from[r * length + c]!;
      to[c] = (1 - weight) * to[c]! + weight * scale * (sum / repeat);
    }
  },
};
