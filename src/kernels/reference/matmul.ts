import { heap } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";

export const matmul: Pick<KernelSet, "matmul"> = {
  matmul(aSlot, bSlot, ySlot, plan) {
    const [a, b, y] = [heap.view(aSlot), heap.view(bSlot), heap.view(ySlot)];
    const bias = plan.bias ? heap.view(plan.bias) : null;
    const { batch, m, n, k, transposeA, transposeB } = plan;
    const [aRow, aDepth] = transposeA ? [1, m] : [k, 1];
    const [bDepth, bColumn] = transposeB ? [1, k] : [n, 1];
    for (let s = 0; s < batch; s++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          const aFrom = s * plan.aBatchStride + i * aRow;
          const bFrom = s * plan.bBatchStride + j * bColumn;
          let sum = bias ? bias[j]! : 0;
          for (let p = 0; p < k; p++) sum += a[aFrom + p * aDepth]! * b[bFrom + p * bDepth]!;
          y[(s * m + i) * n + j] = sum;
        }
      }
    }
  },
};
