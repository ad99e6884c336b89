import { heap, type Slot } from "../../memory/heap.js";
import type { AdamStep, KernelSet, RmspropStep, SgdStep } from "../kernel_set.js";

type Updates = Pick<KernelSet, "sgd" | "adam" | "rmsprop" | "sumSquaresOf" | "scaleOf">;

export const optimizers: Updates = {
  sgd(p, g, velocity, o) {
    for (let i = 0; i < p.length; i++) sgd(p[i]!, g[i]!, velocity && velocity[i]!, o);
  },

  adam(p, g, m, v, o) {
    for (let i = 0; i < p.length; i++) adam(p[i]!, g[i]!, m[i]!, v[i]!, o);
  },

  rmsprop(p, g, square, average, velocity, o) {
    for (let i = 0; i < p.length; i++) {
      rmsprop(p[i]!, g[i]!, square[i]!, average && average[i]!, velocity && velocity[i]!, o);
    }
  },

  sumSquaresOf(xs, sums) {
    for (let i = 0; i < xs.length; i++) {
      let sum = 0;
      for (const v of heap.view(xs[i]!)) sum += v * v;
      heap.write(sums, i, sum);
    }
  },

  scaleOf(xs, factor) {
    for (const x of xs) {
      const view = heap.view(x);
      const f = x.dtype === "float32" ? Math.fround(factor) : factor;
      for (let i = 0; i < view.length; i++) view[i]! *= f;
    }
  },
};

function sgd(p: Slot, g: Slot, velocity: Slot | null, o: SgdStep): void {
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
}

function adam(p: Slot, g: Slot, m: Slot, v: Slot, o: AdamStep): void {
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
}

function rmsprop(p: Slot, g: Slot, square: Slot, average: Slot | null, velocity: Slot | null, o: RmspropStep): void {
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
}
