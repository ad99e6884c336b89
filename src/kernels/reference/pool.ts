import { heap } from "../../memory/heap.js";
import type { AdaptivePlan, KernelSet, PoolPlan, Triple } from "../kernel_set.js";

const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** Input positions along one axis that output o looks at, padding left out. */
function taps(plan: PoolPlan, axis: 0 | 1 | 2, o: number): number[] {
  const first = o * plan.stride[axis] - plan.padding[axis];
  const all = Array.from({ length: plan.kernel[axis] }, (_, k) => first + k * plan.dilation[axis]);
  return all.filter((i) => i >= 0 && i < plan.input[axis]);
}

/** How many taps an average divides by along one axis: padding counts if the plan says so, what lies beyond it never. */
function counted(plan: PoolPlan, axis: 0 | 1 | 2, o: number): number {
  if (!plan.countIncludePad) return taps(plan, axis, o).length;
  const reach = plan.input[axis] + 2 * plan.padding[axis] - o * plan.stride[axis];
  return Math.min(plan.kernel[axis], Math.ceil(reach / plan.dilation[axis]));
}

function span(plan: AdaptivePlan, axis: 0 | 1 | 2, o: number): number[] {
  const [n, m] = [plan.input[axis], plan.output[axis]];
  const [from, to] = [Math.floor((o * n) / m), Math.ceil(((o + 1) * n) / m)];
  return Array.from({ length: to - from }, (_, i) => from + i);
}

interface Window {
  /** Flat position in y. */
  readonly out: number;
  /** First element of the plane in x. */
  readonly plane: number;
  /** Flat positions within the plane, in order. */
  readonly inside: number[];
  readonly count: number;
}

/** Every window of every plane, in the order of y. */
function* windows(plan: PoolPlan | AdaptivePlan): Generator<Window> {
  const { planes, input, output } = plan;
  const list = (axis: 0 | 1 | 2, o: number) => ("kernel" in plan ? taps(plan, axis, o) : span(plan, axis, o));
  const size = (axis: 0 | 1 | 2, o: number) => ("kernel" in plan ? counted(plan, axis, o) : span(plan, axis, o).length);
  let out = 0;
  for (let p = 0; p < planes; p++) {
    for (let d = 0; d < output[0]; d++) {
      for (let h = 0; h < output[1]; h++) {
        for (let w = 0; w < output[2]; w++) {
          const inside = list(0, d).flatMap((i) =>
            list(1, h).flatMap((j) => list(2, w).map((k) => (i * input[1] + j) * input[2] + k)),
          );
          yield { out: out++, plane: p * volume(input), inside, count: size(0, d) * size(1, h) * size(2, w) };
        }
      }
    }
  }
}

function average(x: Parameters<KernelSet["avgPool"]>[0], y: typeof x, plan: PoolPlan | AdaptivePlan): void {
  const [xs, ys] = [heap.view(x), heap.view(y)];
  for (const { out, plane, inside, count } of windows(plan)) {
    let sum = 0;
    for (const i of inside) sum += xs[plane + i]!;
    ys[out] = sum / count;
  }
}

function averageGrad(dy: Parameters<KernelSet["avgPool"]>[0], dx: typeof dy, plan: PoolPlan | AdaptivePlan): void {
  const [dys, dxs] = [heap.view(dy), heap.view(dx)];
  dxs.fill(0);
  for (const { out, plane, inside, count } of windows(plan)) {
    for (const i of inside) dxs[plane + i]! += dys[out]! / count;
  }
}

type PoolKernels = "maxPool" | "maxPoolGrad" | "avgPool" | "avgPoolGrad" | "adaptiveAvgPool" | "adaptiveAvgPoolGrad";

export const pool: Pick<KernelSet, PoolKernels> = {
  maxPool(x, y, index, plan) {
    const [xs, ys, at] = [heap.view(x), heap.view(y), heap.view(index)];
    for (const { out, plane, inside } of windows(plan)) {
      let [best, where] = [Number.NEGATIVE_INFINITY, inside[0] ?? -1];
      for (const i of inside) {
        const v = xs[plane + i]!;
        if (v > best || Number.isNaN(v)) [best, where] = [v, i];
      }
      ys[out] = best;
      at[out] = where;
    }
  },

  maxPoolGrad(dy, index, dx, plan) {
    const [dys, at, dxs] = [heap.view(dy), heap.view(index), heap.view(dx)];
    const [size, outSize] = [volume(plan.input), volume(plan.output)];
    dxs.fill(0);
    for (let i = 0; i < dys.length; i++) {
      if (at[i]! >= 0) dxs[Math.floor(i / outSize) * size + at[i]!]! += dys[i]!;
    }
  },

  avgPool: average,
  avgPoolGrad: averageGrad,
  adaptiveAvgPool: average,
  adaptiveAvgPoolGrad: averageGrad,
};
