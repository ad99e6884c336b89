import { UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import type { KernelSet, MatmulPlan } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";

/** Steps of the summed axis that a register tile takes at once: a strip of B is then 16 KiB, a panel of A 4 KiB. */
const K_BLOCK = 256;
/** Packed A of one launch: 4 MiB at most, so that scratch memory stays small beside the operands. */
const PACKED = 1 << 20;
const K_SPAN = 8192;
const STRIP = 16;
/** Units that keep several threads busy to the end. */
const UNITS = 16;
/** Below this many rows a block of its own would pack its strip of B for too few products. */
const MIN_ROWS = 64;
/** Up to this many products packing costs more than it saves. */
const TINY = 4096;

/** Nanoseconds of a product in a tile, of one without packing (memory is what that waits for), of an element packed. */
const TILE_WORK = 0.04;
const DIRECT_WORK = 0.1;
const PACK_WORK = 0.25;

const SCRATCH = (K_BLOCK * STRIP + 32) * 4;

export interface Operand {
  readonly ptr: number;
  /** Bytes from one matrix of the batch to the next, and between neighbours along the kept and the summed axis. */
  readonly batch: number;
  readonly lane: number;
  readonly depth: number;
}

/** y[i] = A[i mod matrices] B[i], with a bias of `n` columns or, `byRows`, of the m rows of each matrix of A. */
export interface Product {
  readonly batch: number;
  readonly matrices: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly bias: Slot | null;
  readonly byRows: boolean;
}

export const matmul: Pick<KernelSet, "matmul"> = {
  matmul(a, b, y, plan) {
    for (const slot of [a, b, y, ...(plan.bias ? [plan.bias] : [])]) {
      if (slot.dtype !== "float32") throw new UnsupportedKernel("matmul has a WASM kernel for float32 only");
    }
    const p = mergeBatch(plan);
    if (p.batch * p.m * p.n === 0) return;
    const left = operand(a, p.aBatchStride, p.m, p.k, p.transposeA);
    const right = operand(b, p.bBatchStride, p.n, p.k, !p.transposeB);
    if (p.n === 1 && p.m > 1) direct(right, left, y, { ...p, m: 1, n: p.m }, 0);
    else if (p.m === 1 || p.m * p.n * p.k <= TINY) direct(left, right, y, p, 4);
    else {
      const { batch, m, n, k, bias } = p;
      tiled(left, right, y, { batch, matrices: left.batch === 0 ? 1 : batch, m, n, k, bias, byRows: false });
    }
  },
};

/** Matrices that share B and follow each other in A are one tall matrix. */
function mergeBatch(p: MatmulPlan): MatmulPlan {
  const tall = !p.transposeA && p.bBatchStride === 0 && p.aBatchStride === p.m * p.k;
  return tall ? { ...p, batch: 1, m: p.batch * p.m } : p;
}

function operand(slot: Slot, batchStride: number, kept: number, summed: number, summedFirst: boolean): Operand {
  const [lane, depth] = summedFirst ? [4, kept * 4] : [summed * 4, 4];
  return { ptr: slot.ptr, batch: batchStride * 4, lane, depth };
}

function direct(a: Operand, b: Operand, y: Slot, p: MatmulPlan, biasStep: number): void {
  const strips = Math.ceil(p.n / 32);
  // A single row is contiguous whichever way it is said to lie.
  const aDepth = p.m === 1 ? 4 : a.depth;
  // So is a single column of B.
  const transposed = b.depth === 4 && p.n > 1;
  launch("matmul_direct", p.batch * strips, p.batch * p.m * p.n * p.k * DIRECT_WORK, [
    ...[a.ptr, b.ptr, y.ptr, p.bias?.ptr ?? 0, p.m, p.n, p.k, K_BLOCK, a.batch, b.batch, a.lane, aDepth],
    ...[transposed ? b.lane : b.depth, Number(transposed), biasStep, strips],
  ]);
}

/** Whether `tiled` takes several matrices of A again and again: it then packs them all at once. */
export const packsAtOnce = (matrices: number, m: number, k: number): boolean =>
  matrices === 1 || matrices * Math.ceil(m / 4) * 4 * k <= PACKED;

export function tiled(a: Operand, b: Operand, y: Slot, p: Product): void {
  const kSpan = Math.min(p.k, K_SPAN);
  const mSpan = Math.min(p.m, Math.max(STRIP, Math.floor(PACKED / kSpan / STRIP) * STRIP));
  const matrix = Math.ceil(mSpan / 4) * 4 * kSpan;
  const own = p.matrices === p.batch;
  const batchSpan = own ? Math.min(p.batch, Math.max(1, Math.floor(PACKED / matrix))) : p.batch;
  const packedFloats = matrix * (own ? batchSpan : p.matrices);
  const block = heap.allocate(packedFloats * 4 + scratchPlaces() * SCRATCH);
  try {
    const packed = heap.address(block);
    for (let batch = 0; batch < p.batch; batch += batchSpan) {
      const members = Math.min(batchSpan, p.batch - batch);
      for (let row = 0; row < p.m; row += mSpan) {
        for (let from = 0; from < p.k; from += kSpan) {
          // Written out: copying an object into another takes as long as a small product.
          tiles(
            {
              ptr: a.ptr + batch * a.batch + row * a.lane + from * a.depth,
              batch: a.batch,
              lane: a.lane,
              depth: a.depth,
            },
            { ptr: b.ptr + batch * b.batch + from * b.depth, batch: b.batch, lane: b.lane, depth: b.depth },
            y.ptr + (batch * p.m + row) * p.n * 4,
            {
              batch: members,
              matrices: own ? members : p.matrices,
              m: Math.min(mSpan, p.m - row),
              n: p.n,
              k: Math.min(kSpan, p.k - from),
              bias: p.bias,
              byRows: p.byRows,
            },
            p.bias ? p.bias.ptr + (p.byRows ? row * 4 : 0) : 0,
            p.m,
            from > 0,
            packed,
            packed + packedFloats * 4,
          );
        }
      }
    }
  } finally {
    heap.free(block);
  }
}

function tiles(
  a: Operand,
  b: Operand,
  y: number,
  p: Product,
  bias: number,
  allRows: number,
  add: boolean,
  packed: number,
  scratch: number,
): void {
  const { batch, matrices, m, n, k } = p;
  const groups = Math.ceil(m / 16);
  launch("matmul_pack", matrices * groups, matrices * m * k * PACK_WORK, [
    ...[a.ptr, packed, m, k, K_BLOCK, a.lane, a.depth, a.batch, groups],
  ]);
  const strips = Math.ceil(n / STRIP);
  const wanted = Math.min(Math.ceil(UNITS / (batch * strips)), Math.ceil(m / MIN_ROWS));
  const rowBlock = Math.ceil(Math.ceil(m / wanted) / 4) * 4;
  const rowBlocks = Math.ceil(m / rowBlock);
  const packedBatch = Math.ceil(m / 4) * 4 * k * 4;
  launch("matmul_tiles", batch * rowBlocks * strips, batch * m * n * k * TILE_WORK, [
    ...[packed, b.ptr, y, bias, m, n, k, K_BLOCK, packedBatch, b.batch, allRows * n * 4],
    ...[matrices, Number(p.byRows), allRows * 4, b.lane, b.depth],
    ...[rowBlock, rowBlocks, strips, Number(add), scratch, SCRATCH],
  ]);
}
