import type { KernelSet } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { needFloat32 } from "./elementwise.js";

/** Elements a unit: four arrays of 8 KiB stay in a first-level cache. */
const UNIT = 2048;

const units = (length: number): number => Math.ceil(length / UNIT);

export const optimizers: Pick<KernelSet, "sgd" | "adam" | "rmsprop"> = {
  sgd(p, g, velocity, o) {
    needFloat32("sgd", p, g, velocity);
    launch("sgd", units(p.length), p.length * 2, [
      p.ptr,
      g.ptr,
      velocity?.ptr ?? 0,
      p.length,
      UNIT,
      o.lr,
      o.momentum,
      1 - o.dampening,
      o.weightDecay,
      o.maximize ? -1 : 1,
      o.nesterov ? 1 : 0,
      o.first ? 1 : 0,
    ]);
  },

  adam(p, g, m, v, o) {
    needFloat32("adam", p, g, m, v);
    launch("adam", units(p.length), p.length * 4, [
      p.ptr,
      g.ptr,
      m.ptr,
      v.ptr,
      p.length,
      UNIT,
      o.lr / o.correction1,
      o.beta2,
      1 - o.beta1,
      1 - o.beta2,
      o.eps,
      o.decoupled ? 0 : o.weightDecay,
      o.decoupled ? 1 - o.lr * o.weightDecay : 1,
      1 / Math.sqrt(o.correction2),
      o.maximize ? -1 : 1,
    ]);
  },

  rmsprop(p, g, square, average, velocity, o) {
    needFloat32("rmsprop", p, g, square, average);
    needFloat32("rmsprop", velocity);
    launch("rmsprop", units(p.length), p.length * 4, [
      p.ptr,
      g.ptr,
      square.ptr,
      average?.ptr ?? 0,
      velocity?.ptr ?? 0,
      p.length,
      UNIT,
      o.lr,
      o.alpha,
      1 - o.alpha,
      o.eps,
      o.weightDecay,
      o.momentum,
      o.maximize ? -1 : 1,
    ]);
  },
};
