import { heap } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { DynamicPlan, KernelSet } from "../kernel_set.js";
import { launch } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";

/** Floats a unit of the forward pass. */
const UNIT = 4096;
/** Rows a unit of the backward pass, at least, and units, at most: the units' sums stay small beside x. */
const FEWEST_ROWS = 8;
const UNITS = 64;

const codes = { tanh: 0, erf: 1 } as const;
const planArgs = ({ rows, size, alpha, shift, op }: DynamicPlan, unit: number): number[] => {
  return [rows, size, alpha, shift, codes[op], unit];
};

export const dynamicActivation: Pick<KernelSet, "dynamicActivation" | "dynamicActivationGrad"> = {
  dynamicActivation(x, weight, bias, y, plan) {
    float32Only("dynamicActivation", x, weight, bias, y);
    if (x.length === 0) return;
    const unit = Math.ceil(UNIT / plan.size);
    const args = [x.ptr, weight?.ptr ?? 0, bias?.ptr ?? 0, y.ptr, ...planArgs(plan, unit)];
    launch("dynamic_activation", Math.ceil(plan.rows / unit), 8 * x.length, args);
  },

  dynamicActivationGrad(x, dy, weight, out, sums, plan) {
    float32Only("dynamicActivationGrad", x, dy, weight);
    float32Only("dynamicActivationGrad", out.dx, out.dWeight, out.dBias);
    const { rows, size } = plan;
    const unit = Math.max(FEWEST_ROWS, Math.ceil(rows / UNITS));
    const units = x.length === 0 ? 0 : Math.ceil(rows / unit);
    const stride = 2 * size + 4;
    const partial = new Storage(units * stride, "float64");
    const args = [x.ptr, dy.ptr, weight?.ptr ?? 0, out.dx?.ptr ?? 0, partial.ptr, ...planArgs(plan, unit)];
    if (units > 0) launch("dynamic_activation_grad", units, 12 * x.length, args);
    const total = new Float64Array(stride);
    const parts = partial.view;
    for (let u = 0; u < units; u++) {
      for (let i = 0, p = u * stride; i < stride; i++, p++) total[i]! += parts[p]!;
    }
    if (out.dWeight) heap.view(out.dWeight).set(total.subarray(0, size));
    if (out.dBias) heap.view(out.dBias).set(total.subarray(size, 2 * size));
    heap.view(sums).set([total[stride - 4]! + total[stride - 3]!, total[stride - 2]! + total[stride - 1]!]);
    partial.release();
  },
};
