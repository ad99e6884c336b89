import type { KernelSet } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";

/** Nanoseconds an element, without and with an exponential. */
const LIGHT_WORK = 0.3;
const EXP_WORK = 1.2;

export const softmax: Pick<KernelSet, "softmax" | "softmaxGrad" | "crossEntropy" | "crossEntropyGrad"> = {
  softmax(x, y, rows, size, log) {
    float32Only("softmax", x, y);
    launch("softmax", rows, EXP_WORK * rows * size, [x.ptr, y.ptr, size, log ? 1 : 0]);
  },

  softmaxGrad(y, dy, dx, rows, size, log) {
    float32Only("softmaxGrad", y, dy, dx);
    const work = (log ? EXP_WORK : LIGHT_WORK) * rows * size;
    launch("softmax_grad", rows, work, [y.ptr, dy.ptr, dx.ptr, size, log ? 1 : 0]);
  },

  crossEntropy(logits, target, logProbs, losses, { rows, classes, smoothing, ignoreIndex }) {
    float32Only("crossEntropy", logits, logProbs, losses);
    const args = [logits.ptr, target.ptr, logProbs.ptr, losses.ptr, classes, smoothing, ignoreIndex];
    launch("cross_entropy", rows, EXP_WORK * rows * classes, args);
  },

  crossEntropyGrad(logProbs, target, scale, dx, { rows, classes, smoothing, ignoreIndex }) {
    float32Only("crossEntropyGrad", logProbs, scale, dx);
    const args = [logProbs.ptr, target.ptr, scale.ptr, dx.ptr, classes, smoothing, ignoreIndex];
    launch("cross_entropy_grad", rows, EXP_WORK * rows * classes, args);
  },
};
