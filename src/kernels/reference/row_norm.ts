import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";
import { activation as activations, curveGradOf } from "./activation.js";

/** rho = 1 / sqrt(variance + eps); xhat = (x - mean) * rho; y = weight * xhat + bias. Without a mean: xhat = x * rho. */
export const rowNorm: Pick<KernelSet, "rowNorm" | "rowNormGrad" | "addRowNorm"> = {
  rowNorm(x, weight, bias, y, stats, view, eps, activation) {
    const { rows, size, groups, inner } = view;
    const [xs, ys, variances] = [heap.view(x), heap.view(y), heap.view(stats.variance)];
    const means = stats.mean && heap.view(stats.mean);
    const ws = weight && heap.view(weight);
    const bs = bias && heap.view(bias);
    for (let r = 0; r < rows; r++) {
      let mean = 0;
      if (means) {
        for (let d = 0; d < size; d++) mean += xs[r * size + d]!;
        mean /= size;
        means[r] = mean;
      }
      let variance = 0;
      for (let d = 0; d < size; d++) variance += (xs[r * size + d]! - mean) ** 2;
      variance /= size;
      variances[r] = variance;
      const rho = 1 / Math.sqrt(variance + eps);
      for (let d = 0; d < size; d++) {
        const c = (r % groups) * (size / inner) + Math.floor(d / inner);
        ys[r * size + d] = (xs[r * size + d]! - mean) * rho * (ws ? ws[c]! : 1) + (bs ? bs[c]! : 0);
      }
    }
    if (activation) activations.activation(activation.op, y, y, activation.alpha);
  },

  addRowNorm(x, residual, sum, weight, bias, y, stats, view, eps) {
    const [xs, rs, sums] = [heap.view(x), heap.view(residual), heap.view(sum)];
    for (let i = 0; i < sums.length; i++) sums[i] = xs[i]! + rs[i]!;
    rowNorm.rowNorm(sum, weight, bias, y, stats, view, eps);
  },

  /** With g = weight * dy: dx = rho * (g - average(g) - xhat * average(g * xhat)); without a mean, average(g) drops out. */
  rowNormGrad(x, dy, weight, stats, out, view, eps, activation) {
    const { rows, size, groups, inner } = view;
    const [xs, given, variances] = [heap.view(x), heap.view(dy), heap.view(stats.variance)];
    const means = stats.mean && heap.view(stats.mean);
    const ws = weight && heap.view(weight);
    const bs = activation?.bias && heap.view(activation.bias);
    const through = activation ? curveGradOf(activation.op, activation.alpha) : null;
    const dys = Float64Array.from(given, (g, i) => {
      if (!through) return g;
      const [r, d] = [Math.floor(i / size), i % size];
      const c = (r % groups) * (size / inner) + Math.floor(d / inner);
      const xhat = (xs[i]! - (means ? means[r]! : 0)) / Math.sqrt(variances[r]! + eps);
      return through((ws ? ws[c]! : 1) * xhat + (bs ? bs[c]! : 0), g);
    });
    const dxs = out.dx && heap.view(out.dx);
    const dWeight = new Float64Array((groups * size) / inner);
    const dBias = new Float64Array((groups * size) / inner);
    for (let r = 0; r < rows; r++) {
      const mean = means ? means[r]! : 0;
      const rho = 1 / Math.sqrt(variances[r]! + eps);
      let sumG = 0;
      let sumGX = 0;
      for (let d = 0; d < size; d++) {
        const c = (r % groups) * (size / inner) + Math.floor(d / inner);
        const g = dys[r * size + d]!;
        const xhat = (xs[r * size + d]! - mean) * rho;
        dWeight[c]! += g * xhat;
        dBias[c]! += g;
        sumG += g * (ws ? ws[c]! : 1);
        sumGX += g * (ws ? ws[c]! : 1) * xhat;
      }
      if (!dxs) continue;
      for (let d = 0; d < size; d++) {
        const c = (r % groups) * (size / inner) + Math.floor(d / inner);
        const g = dys[r * size + d]! * (ws ? ws[c]! : 1);
        const xhat = (xs[r * size + d]! - mean) * rho;
        dxs[r * size + d] = rho * (g - (means ? sumG / size : 0) - (xhat * sumGX) / size);
      }
    }
    if (out.dWeight) heap.view(out.dWeight).set(dWeight);
    if (out.dBias) heap.view(out.dBias).set(dBias);
  },
};
