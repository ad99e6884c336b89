import type { AdaptivePlan, KernelSet, PoolPlan, Triple } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";

const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** In the order of the kernels' argument class. */
function poolArgs(x: number, y: number, index: number, plan: PoolPlan): number[] {
  const { input, output, kernel, stride, padding, dilation, countIncludePad } = plan;
  return [x, y, index, countIncludePad ? 1 : 0, ...input, ...output, ...kernel, ...stride, ...padding, ...dilation];
}

/** Nanoseconds of a tap; of an element that a gradient scatters; of one that an adaptive pool sums or spreads. */
const TAP_WORK = 0.6;
const SCATTER_WORK = 0.1;
const ADAPTIVE_WORK = 0.3;

/** Rows of outputs, and the time they take. */
function rowsAndWork({ planes, output, kernel }: PoolPlan): [number, number] {
  return [planes * output[0] * output[1], planes * volume(output) * volume(kernel) * TAP_WORK];
}

const adaptiveArgs = (x: number, y: number, { input, output }: AdaptivePlan): number[] => [x, y, ...input, ...output];

type PoolKernels = "maxPool" | "maxPoolGrad" | "avgPool" | "avgPoolGrad" | "adaptiveAvgPool" | "adaptiveAvgPoolGrad";

export const pool: Pick<KernelSet, PoolKernels> = {
  maxPool(x, y, index, plan) {
    float32Only("maxPool", x, y);
    launch("max_pool", ...rowsAndWork(plan), poolArgs(x.ptr, y.ptr, index.ptr, plan));
  },

  maxPoolGrad(dy, index, dx, { planes, input, output }) {
    float32Only("maxPoolGrad", dy, dx);
    const args = [dy.ptr, index.ptr, dx.ptr, volume(input), volume(output)];
    launch("max_pool_grad", planes, (dx.length + 4 * dy.length) * SCATTER_WORK, args);
  },

  avgPool(x, y, plan) {
    float32Only("avgPool", x, y);
    launch("avg_pool", ...rowsAndWork(plan), poolArgs(x.ptr, y.ptr, 0, plan));
  },

  avgPoolGrad(dy, dx, plan) {
    float32Only("avgPoolGrad", dy, dx);
    launch("avg_pool_grad", plan.planes, rowsAndWork(plan)[1], poolArgs(dx.ptr, dy.ptr, 0, plan));
  },

  adaptiveAvgPool(x, y, plan) {
    float32Only("adaptiveAvgPool", x, y);
    launch("adaptive_avg_pool", plan.planes, (x.length + y.length) * ADAPTIVE_WORK, adaptiveArgs(x.ptr, y.ptr, plan));
  },

  adaptiveAvgPoolGrad(dy, dx, plan) {
    float32Only("adaptiveAvgPoolGrad", dy, dx);
    launch(
      "adaptive_avg_pool_grad",
      plan.planes,
      (dx.length + dy.length) * ADAPTIVE_WORK,
      adaptiveArgs(dx.ptr, dy.ptr, plan),
    );
  },
};
