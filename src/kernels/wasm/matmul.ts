import { heap, type Slot } from "../../memory/heap.js";
import type { KernelSet } from "../kernel_set.js";
import { kernelArgs, run, scratchPlaces } from "../threads/pool.js";
import { float32Only } from "./float32_only.js";
import { kernelIndex } from "./module.js";

const PACK = kernelIndex("matmul_pack");
const TILES = kernelIndex("matmul_tiles");
const DIRECT = kernelIndex("matmul_direct");

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
    float32Only("matmul", a, b, y, plan.bias);
    const { n, k, bias } = plan;
    // Matrices that share B and follow each other in A are one tall matrix.
    const tall = !plan.transposeA && plan.bBatchStride === 0 && plan.aBatchStride === plan.m * k;
    const batch = tall ? 1 : plan.batch;
    const m = tall ? plan.batch * plan.m : plan.m;
    if (batch * m * n === 0) return;
    place(left, a, plan.aBatchStride, m, k, plan.transposeA);
    place(right, b, plan.bBatchStride, n, k, !plan.transposeB);
    if (n === 1 && m > 1) direct(right, left, y, batch, 1, m, k, bias, 0);
    else if (m === 1 || m * n * k <= TINY) direct(left, right, y, batch, m, n, k, bias, 4);
    else {
      product.batch = batch;
      product.matrices = left.batch === 0 ? 1 : batch;
      product.m = m;
      product.n = n;
      product.k = k;
      product.bias = bias;
      tiled(left, right, y, product);
    }
  },
};

/** Written anew for each call: objects of its own would take as long as a small product. */
const left = { ptr: 0, batch: 0, lane: 0, depth: 0 };
const right = { ptr: 0, batch: 0, lane: 0, depth: 0 };
const product = { batch: 0, matrices: 0, m: 0, n: 0, k: 0, bias: null as Slot | null, byRows: false };

function place(o: typeof left, slot: Slot, batchStride: number, kept: number, summed: number, first: boolean): void {
  o.ptr = slot.ptr;
  o.batch = batchStride * 4;
  o.lane = first ? 4 : summed * 4;
  o.depth = first ? kept * 4 : 4;
}

function direct(
  a: Operand,
  b: Operand,
  y: Slot,
  batch: number,
  m: number,
  n: number,
  k: number,
  bias: Slot | null,
  biasStep: number,
): void {
  const strips = Math.ceil(n / 32);
  // A single column of B is contiguous whichever way it is said to lie.
  const transposed = b.depth === 4 && n > 1;
  const args = kernelArgs();
  args[0] = a.ptr;
  args[1] = b.ptr;
  args[2] = y.ptr;
  args[3] = bias ? bias.ptr : 0;
  args[4] = m;
  args[5] = n;
  args[6] = k;
  args[7] = K_BLOCK;
  args[8] = a.batch;
  args[9] = b.batch;
  args[10] = a.lane;
  // So is a single row of A.
  args[11] = m === 1 ? 4 : a.depth;
  args[12] = transposed ? b.lane : b.depth;
  args[13] = transposed ? 1 : 0;
  args[14] = biasStep;
  args[15] = strips;
  run(DIRECT, batch * strips, batch * m * n * k * DIRECT_WORK);
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
          const rows = Math.min(mSpan, p.m - row);
          const steps = Math.min(kSpan, p.k - from);
          const matrices = own ? members : p.matrices;
          const packing = a.ptr + batch * a.batch + row * a.lane + from * a.depth;
          pack(a, packing, packed, matrices, rows, steps);
          tiles(b, y, p, batch, members, matrices, row, rows, from, steps, packed, packed + packedFloats * 4);
        }
      }
    }
  } finally {
    heap.free(block);
  }
}

/** Packs `steps` of the summed axis of some rows of A, which lie at `from`. */
function pack(a: Operand, from: number, to: number, matrices: number, rows: number, steps: number): void {
  const groups = Math.ceil(rows / 16);
  const args = kernelArgs();
  args[0] = from;
  args[1] = to;
  args[2] = rows;
  args[3] = steps;
  args[4] = K_BLOCK;
  args[5] = a.lane;
  args[6] = a.depth;
  args[7] = a.batch;
  args[8] = groups;
  run(PACK, matrices * groups, matrices * rows * steps * PACK_WORK);
}

/** The product of what is packed: `members` of the batch, and of the rows and of the summed axis a part each. */
function tiles(
  b: Operand,
  y: Slot,
  p: Product,
  batch: number,
  members: number,
  matrices: number,
  row: number,
  rows: number,
  from: number,
  steps: number,
  packed: number,
  scratch: number,
): void {
  const { m, n, bias, byRows } = p;
  const strips = Math.ceil(n / STRIP);
  const wanted = Math.min(Math.ceil(UNITS / (members * strips)), Math.ceil(rows / MIN_ROWS));
  const rowBlock = Math.ceil(Math.ceil(rows / wanted) / 4) * 4;
  const rowBlocks = Math.ceil(rows / rowBlock);
  const args = kernelArgs();
  args[0] = packed;
  args[1] = b.ptr + batch * b.batch + from * b.depth;
  args[2] = y.ptr + (batch * m + row) * n * 4;
  args[3] = bias ? bias.ptr + (byRows ? row * 4 : 0) : 0;
  args[4] = rows;
  args[5] = n;
  args[6] = steps;
  args[7] = K_BLOCK;
  args[8] = Math.ceil(rows / 4) * 4 * steps * 4;
  args[9] = b.batch;
  args[10] = m * n * 4;
  args[11] = matrices;
  args[12] = byRows ? 1 : 0;
  args[13] = m * 4;
  args[14] = b.lane;
  args[15] = b.depth;
  args[16] = rowBlock;
  args[17] = rowBlocks;
  args[18] = strips;
  args[19] = from > 0 ? 1 : 0;
  args[20] = scratch;
  args[21] = SCRATCH;
  run(TILES, members * rowBlocks * strips, members * rows * n * steps * TILE_WORK);
}
