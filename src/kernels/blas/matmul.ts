import { bytesPerElement } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import type { KernelSet, MatmulPlan } from "../kernel_set.js";
import { getThreads } from "../threads/pool.js";
import { launchNative } from "./launch.js";
import { native } from "./native.js";

/** Fewer products than this are over before another thread has taken its part. */
const FORK = 1 << 17;
/** Below this many products in a matrix the WASM kernel is as fast: a call into the library costs 0.15 us. */
const SMALL = 1 << 11;

const small = new UnsupportedKernel("BLAS takes products of matrices that are worth a call into the library");
const types = new UnsupportedKernel("BLAS multiplies float32 by float32 or float64 by float64");

/** The one float type of all slots; every other mixture goes to another backend. */
export function floatOf(...slots: readonly (Slot | null)[]): "float32" | "float64" {
  const dtype = slots[0]!.dtype;
  if ((dtype !== "float32" && dtype !== "float64") || slots.some((slot) => slot && slot.dtype !== dtype)) throw types;
  return dtype;
}

export const matmul: Pick<KernelSet, "matmul"> = {
  matmul(a, b, y, plan) {
    const dtype = floatOf(a, b, y, plan.bias);
    const { batch, m, n, k, transposeA, transposeB } = tall(plan);
    const each = m * n * k;
    if (batch * each === 0 || (dtype === "float32" && each < SMALL)) throw small;
    const size = bytesPerElement[dtype];
    const fork = batch * each >= FORK;
    const pieces = fork ? Math.ceil(getThreads() / batch) : 1;
    // Each block packs the whole of the other operand anew, so the longer side is cut.
    const [rowBlock, rowBlocks] = cut(m, m >= n ? pieces : 1);
    const [columnBlock, columnBlocks] = cut(n, m >= n ? 1 : pieces);
    launchNative(native.matmul, batch * rowBlocks * columnBlocks, fork ? batch * each : 0, [
      ...[y.ptr, plan.bias?.ptr ?? 0, Number(dtype === "float64"), n, m, k, a.ptr, b.ptr],
      ...[
        plan.aBatchStride * size,
        plan.bBatchStride * size,
        transposeA ? size : k * size,
        transposeB ? k * size : size,
      ],
      ...[rowBlock, rowBlocks, columnBlock, columnBlocks],
      ...[Number(transposeA), Number(transposeB), transposeA ? m : k, transposeB ? k : n],
    ]);
  },
};

/** Matrices that share B and follow each other in A are one tall matrix. */
function tall(p: MatmulPlan): MatmulPlan {
  const follow = !p.transposeA && p.bBatchStride === 0 && p.aBatchStride === p.m * p.k;
  return follow ? { ...p, batch: 1, m: p.batch * p.m } : p;
}

function cut(length: number, pieces: number): [block: number, blocks: number] {
  const block = Math.ceil(Math.ceil(length / pieces) / 16) * 16;
  return [block, Math.ceil(length / block)];
}
