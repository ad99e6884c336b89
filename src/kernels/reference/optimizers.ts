import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";

export const optimizers: Pick<KernelSet, "sgd" | "adam" | "rmsprop"> = {
  sgd(p, g, velocity, o) {
    const [vp, vg] = [heap.view(p), heap.view(g)];
    const vv = velocity && heap.view(velocity);
    for (let i = 0; i < vp.length; i++) {
      let d = o.maximize ? -vg[i]! : vg[i]!;
      if (o.weightDecay !== 0) d += o.weightDecay * vp[i]!;
      if (vv) {
        const v = o.first ? d : o.momentum * vv[i]! + (1 - o.dampening) * d;
        vv[i] = v;
        d = o.nesterov ? d + o.momentum * v : v;
      }
      vp[i] = vp[i]! - o.lr * d;
    }
  },

  adam(p, g, m, v, o) {
    const [vp, vg, vm, vv] = [heap.view(p), heap.view(g), heap.view(m), heap.view(v)];
    for (let i = 0; i < vp.length; i++) {
      let d = o.maximize ? -vg[i]! : vg[i]!;
      let w = vp[i]!;
      if (o.decoupled) w *= 1 - o.lr * o.weightDecay;
      else if (o.weightDecay !== 0) d += o.weightDecay * w;
      const first = o.beta1 * vm[i]! + (1 - o.beta1) * d;
      const second = o.beta2 * vv[i]! + (1 - o.beta2) * d * d;
      vm[i] = first;
      vv[i] = second;
      vp[i] = w - ((o.lr / o.correction1) * first) / (Math.sqrt(second) / Math.sqrt(o.correction2) + o.eps);
    }
  },

  rmsprop(p, g, square, average, velocity, o) {
    const [vp, vg, vs] = [heap.view(p), heap.view(g), heap.view(square)];
    const va = average && heap.view(average);
    const vv = velocity && heap.view(velocity);
    for (let i = 0; i < vp.length; i++) {
      let d = o.maximize ? -vg[i]! : vg[i]!;
      if (o.weightDecay !== 0) d += o.weightDecay * vp[i]!;
      let spread = o.alpha * vs[i]! + (1 - o.alpha) * d * d;
      vs[i] = spread;
      if (va) {
        const mean = o.alpha * va[i]! + (1 - o.alpha) * d;
        va[i] = mean;
        // Rounding can leave the variance of a steady gradient just below 0.
        spread = Math.max(spread - mean * mean, 0);
      }
      let update = d / (Math.sqrt(spread) + o.eps);
      if (vv) {
        update += o.momentum * vv[i]!;
        vv[i] = update;
      }
      vp[i] = vp[i]! - o.lr * update;
    }
  },
};
