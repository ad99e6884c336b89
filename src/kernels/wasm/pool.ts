import type { AdaptivePlan, KernelSet, PoolPlan, Triple } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";

const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** In the order of the kernels' argument class. */
function poolArgs(x: number, y: number, index: number, plan: PoolPlan): number[] {
  const { input, output, kernel, stride, padding, dilation, countIncludePad } = plan;
  return [x, y, index, countIncludePad ? 1 : 0, ...input, ...output, ...kernel, ...stride, ...padding, ...dilation];
}

/** Rows of outputs, and about how many taps they take. */
function rowsAndWork({ planes, output, kernel }: PoolPlan): [number, number] {
  return [planes * output[0] * output[1], planes * volume(output) * volume(kernel)];
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
    launch("max_pool_grad", planes, dx.length + 4 * dy.length, args);
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
    launch("adaptive_avg_pool", plan.planes, x.length + y.length, adaptiveArgs(x.ptr, y.ptr, plan));
  },

  adaptiveAvgPoolGrad(dy, dx, plan) {
    float32Only("adaptiveAvgPoolGrad", dy, dx);
    launch("adaptive_avg_pool_grad", plan.planes, dx.length + dy.length, adaptiveArgs(dx.ptr, dy.ptr, plan));
  },
};
