import type { Slot } from "../../memory/heap.js";
import type { AdaptivePlan, KernelSet, PoolPlan, Triple } from "../kernel_set.js";
import { kernelArgs, listArgs, run } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";
import { kernelIndex } from "./module.js";

const MAX_POOL = kernelIndex("max_pool");
const MAX_POOL_GRAD = kernelIndex("max_pool_grad");
const AVG_POOL = kernelIndex("avg_pool");
const AVG_POOL_GRAD = kernelIndex("avg_pool_grad");
const ADAPTIVE = kernelIndex("adaptive_avg_pool");
const ADAPTIVE_GRAD = kernelIndex("adaptive_avg_pool_grad");

const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** Writes the arguments in the order of the kernels' class. */
function poolArgs(x: number, y: number, index: number, plan: PoolPlan): void {
  const a = kernelArgs();
  a[0] = x;
  a[1] = y;
  a[2] = index;
  a[3] = plan.countIncludePad ? 1 : 0;
  listArgs(4, plan.input);
  listArgs(7, plan.output);
  listArgs(10, plan.kernel);
  listArgs(13, plan.stride);
  listArgs(16, plan.padding);
  listArgs(19, plan.dilation);
}

/** Nanoseconds of a tap; of an element that a gradient scatters; of one that an adaptive pool sums or spreads. */
const TAP_WORK = 0.6;
const SCATTER_WORK = 0.1;
const ADAPTIVE_WORK = 0.3;

/** Rows of outputs, and the time they take. */
const rowsOf = ({ planes, output }: PoolPlan): number => planes * output[0] * output[1];
const workOf = ({ planes, output, kernel }: PoolPlan): number => planes * volume(output) * volume(kernel) * TAP_WORK;

function adaptive(kernel: number, x: Slot, y: Slot, { planes, input, output }: AdaptivePlan): void {
  const a = kernelArgs();
  a[0] = x.ptr;
  a[1] = y.ptr;
  listArgs(2, input);
  listArgs(5, output);
  run(kernel, planes, (x.length + y.length) * ADAPTIVE_WORK);
}

type PoolKernels = "maxPool" | "maxPoolGrad" | "avgPool" | "avgPoolGrad" | "adaptiveAvgPool" | "adaptiveAvgPoolGrad";

export const pool: Pick<KernelSet, PoolKernels> = {
  maxPool(x, y, index, plan) {
    float32Only("maxPool", x, y);
    poolArgs(x.ptr, y.ptr, index.ptr, plan);
    run(MAX_POOL, rowsOf(plan), workOf(plan));
  },

  maxPoolGrad(dy, index, dx, { planes, input, output }) {
    float32Only("maxPoolGrad", dy, dx);
    const a = kernelArgs();
    a[0] = dy.ptr;
    a[1] = index.ptr;
    a[2] = dx.ptr;
    a[3] = volume(input);
    a[4] = volume(output);
    run(MAX_POOL_GRAD, planes, (dx.length + 4 * dy.length) * SCATTER_WORK);
  },

  avgPool(x, y, plan) {
    float32Only("avgPool", x, y);
    poolArgs(x.ptr, y.ptr, 0, plan);
    run(AVG_POOL, rowsOf(plan), workOf(plan));
  },

  avgPoolGrad(dy, dx, plan) {
    float32Only("avgPoolGrad", dy, dx);
    poolArgs(dx.ptr, dy.ptr, 0, plan);
    run(AVG_POOL_GRAD, plan.planes, workOf(plan));
  },

  adaptiveAvgPool(x, y, plan) {
    float32Only("adaptiveAvgPool", x, y);
    adaptive(ADAPTIVE, x, y, plan);
  },

  adaptiveAvgPoolGrad(dy, dx, plan) {
    float32Only("adaptiveAvgPoolGrad", dy, dx);
    adaptive(ADAPTIVE_GRAD, dx, dy, plan);
  },
};
