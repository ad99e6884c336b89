import type { NumberArray } from "../../base/dtype.js";
import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";

/** ys[from ..] = softmax or log-softmax of xs[from .. from + size]. */
function softmaxRow(xs: NumberArray, ys: NumberArray, from: number, size: number, log: boolean): void {
  let top = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < size; j++) top = Math.max(top, xs[from + j]!);
  let sum = 0;
  for (let j = 0; j < size; j++) sum += Math.exp(xs[from + j]! - top);
  for (let j = 0; j < size; j++) {
    const shifted = xs[from + j]! - top;
    ys[from + j] = log ? shifted - Math.log(sum) : Math.exp(shifted) / sum;
  }
}

export const softmax: Pick<KernelSet, "softmax" | "softmaxGrad" | "crossEntropy" | "crossEntropyGrad"> = {
  softmax(x, y, rows, size, log) {
    const [xs, ys] = [heap.view(x), heap.view(y)];
    for (let r = 0; r < rows; r++) softmaxRow(xs, ys, r * size, size, log);
  },

  // softmax: dx = y (dy - sum(y dy)); log-softmax: dx = dy - exp(y) sum(dy)
  softmaxGrad(y, dy, dx, rows, size, log) {
    const [ys, dys, dxs] = [heap.view(y), heap.view(dy), heap.view(dx)];
    for (let r = 0; r < rows; r++) {
      const from = r * size;
      let sum = 0;
      for (let j = from; j < from + size; j++) sum += log ? dys[j]! : ys[j]! * dys[j]!;
      for (let j = from; j < from + size; j++) {
        dxs[j] = log ? dys[j]! - Math.exp(ys[j]!) * sum : ys[j]! * (dys[j]! - sum);
      }
    }
  },

  crossEntropy(logits, target, logProbs, losses, { rows, classes, smoothing, ignoreIndex }) {
    const [xs, labels, ps, ls] = [heap.view(logits), heap.view(target), heap.view(logProbs), heap.view(losses)];
    for (let r = 0; r < rows; r++) {
      const from = r * classes;
      softmaxRow(xs, ps, from, classes, true);
      if (labels[r] === ignoreIndex) {
        ls[r] = 0;
        continue;
      }
      ls[r] = -(1 - smoothing) * ps[from + labels[r]!]!;
      // Without smoothing the sum must not enter: it may be infinite, and 0 times infinity is NaN.
      if (smoothing === 0) continue;
      let sum = 0;
      for (let j = 0; j < classes; j++) sum -= ps[from + j]!;
      ls[r]! += (smoothing / classes) * sum;
    }
  },

  crossEntropyGrad(logProbs, target, scale, dx, { rows, classes, smoothing, ignoreIndex }) {
    const [ps, labels, scales, dxs] = [heap.view(logProbs), heap.view(target), heap.view(scale), heap.view(dx)];
    const share = smoothing / classes;
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < classes; j++) {
        const i = r * classes + j;
        // expm1 where the class is the target: softmax - 1 would cancel for a confident prediction.
        const off = j === labels[r] ? Math.expm1(ps[i]!) + smoothing : Math.exp(ps[i]!);
        dxs[i] = labels[r] === ignoreIndex ? 0 : scales[r]! * (off - share);
      }
    }
  },
};
