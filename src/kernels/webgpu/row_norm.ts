import type { Slot } from "../../memory/heap.js";
import type { KernelSet, RowStats } from "../kernel_set.js";
import { only } from "./elementwise.js";
import { forward } from "./row_norm_forward.js";
import { gradients } from "./row_norm_grad.js";

function check(kernel: string, stats: RowStats, ...slots: (Slot | null)[]): void {
  only(kernel, ["float32"], ...slots);
  only(`the statistics of ${kernel}`, ["float64"], stats.mean, stats.variance);
}

export const rowNorm: Pick<KernelSet, "rowNorm" | "rowNormGrad" | "addRowNorm"> = {
  rowNorm(x, weight, bias, y, stats, view, eps, activation) {
    check("rowNorm", stats, x, weight, bias, y);
    forward({ x, weight, bias, y, stats, view, eps, ...(activation ? { activation } : {}) });
  },

  addRowNorm(x, residual, sum, weight, bias, y, stats, view, eps) {
    check("addRowNorm", stats, x, residual, sum, weight, bias, y);
    forward({ x, weight, bias, y, stats, view, eps, add: { residual, sum } });
  },

  rowNormGrad(x, dy, weight, stats, out, view, eps, activation) {
    check("rowNormGrad", stats, x, dy, weight, activation?.bias ?? null, out.dx, out.dWeight, out.dBias);
    gradients(x, dy, weight, stats, out, view, eps, activation ?? null);
  },
};
