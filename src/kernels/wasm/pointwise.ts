import { heap, type Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { Triple } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";
import { keptForConv } from "./kept.js";
import { matmul, packsAtOnce, tiled } from "./matmul.js";
import { reduction } from "./reduction.js";

/** Positions summed in registers at a time; rows of a unit: together 128 KiB of packed dy and 16 KiB of packed x. */
const K_BLOCK = 256;
const ROWS = 256;
const UNITS = 16;
/** Partial weight gradients, in elements: 4 MiB in all unless one alone is larger. */
const PARTIAL_SUMS = 1 << 20;

/** Nanoseconds of a product. */
const WORK = 0.045;

const volume = (t: Triple): number => t[0] * t[1] * t[2];

/** A 1x1 convolution: a product of matrices for each image and group, [rows, channels] [channels, positions]. */
export interface Pointwise {
  readonly batch: number;
  readonly groups: number;
  readonly rows: number;
  readonly channels: number;
  readonly plane: number;
}

/**
 * What a 1x1 convolution of stride 1 comes to; from 4 channels to 4 on in each group. Time beside conv_tiles, one thread:
 * [32, 64, 28, 28] to 256 0.93, [32, 64, 56, 56] to 64 0.93, [8, 512, 7, 7] to 512 0.84, [4, 16, 8, 8] to 32 0.5 to 0.6,
 * planes of 2x2 0.4, 4 channels to 4 0.6 to 0.9.
 */
export const pointwise = keptForConv((p): Pointwise | null => {
  const point = [0, 1, 2].every((a) => p.kernel[a] === 1 && p.stride[a] === 1 && p.padding[a] === 0);
  const [rows, channels] = [p.outChannels / p.groups, p.inChannels / p.groups];
  if (!point || rows < 4 || channels < 4 || !packsAtOnce(p.groups, rows, channels)) return null;
  return { batch: p.batch, groups: p.groups, rows, channels, plane: volume(p.input) };
});

/**
 * The same for the weight gradient. Where quads fill a plane the direct kernel copies nothing, and packing pays from 8
 * channels to 8 on: 4 to 16 of 28x28 1.67 of its time, 8 to 8 0.45, 64 to 256 0.97, [8, 512, 7, 7] to 512 0.69.
 */
export const pointwiseWeights = keptForConv((p): Pointwise | null => {
  const found = pointwise(p);
  return found && (Math.min(found.rows, found.channels) >= 8 || found.plane % 4 !== 0) ? found : null;
});

export function pointwiseForward(x: Slot, weight: Slot, bias: Slot | null, y: Slot, p: Pointwise): void {
  multiply(x, weight, bias, y, p.rows, p.channels, false, p);
}

export function pointwiseInputGrad(dy: Slot, weight: Slot, dx: Slot, p: Pointwise): void {
  multiply(dy, weight, null, dx, p.channels, p.rows, true, p);
}

/** target [m, positions] = weight or its transpose [m, k] times source [k, positions], for each image and group. */
function multiply(
  source: Slot,
  weight: Slot,
  bias: Slot | null,
  target: Slot,
  m: number,
  k: number,
  transposed: boolean,
  { batch, groups, plane }: Pointwise,
): void {
  if (plane === 1 && groups === 1) {
    // Images are the rows of one matrix then.
    const shape = { batch: 1, m: batch, n: m, k, aBatchStride: 0, bBatchStride: 0 };
    matmul.matmul(source, weight, target, { ...shape, transposeA: false, transposeB: !transposed, bias });
    return;
  }
  const [lane, depth] = transposed ? [4, m * 4] : [k * 4, 4];
  tiled(
    { ptr: weight.ptr, batch: m * k * 4, lane, depth },
    { ptr: source.ptr, batch: k * plane * 4, lane: 4, depth: plane * 4 },
    target,
    { batch: batch * groups, matrices: groups, m, n: plane, k, bias, byRows: true },
  );
}

export function pointwiseWeightGrad(x: Slot, dy: Slot, dWeight: Slot, p: Pointwise): void {
  const { batch, groups, rows, channels, plane } = p;
  const positions = batch * plane;
  const rowBlocks = Math.ceil(rows / ROWS);
  const rowBlock = Math.ceil(Math.ceil(rows / rowBlocks) / 4) * 4;
  const wanted = Math.min(UNITS / (groups * rowBlocks), positions / K_BLOCK, PARTIAL_SUMS / dWeight.length);
  const partPositions = Math.ceil(positions / Math.max(1, Math.floor(wanted)) / 4) * 4;
  const parts = Math.ceil(positions / partPositions);
  const kBlock = Math.ceil(partPositions / Math.ceil(partPositions / K_BLOCK));
  const threadBytes = (rowBlock * kBlock + kBlock * 16 + 32) * 4;
  const scratch = heap.allocate(scratchPlaces() * threadBytes);
  const partial = parts > 1 ? new Storage(parts * dWeight.length, "float32") : null;
  try {
    launch("conv_point_weight", parts * groups * rowBlocks, positions * dWeight.length * WORK, [
      ...[x.ptr, dy.ptr, partial?.ptr ?? dWeight.ptr, heap.address(scratch), threadBytes, groups, rows, channels],
      ...[plane, positions, partPositions, kBlock, rowBlock, rowBlocks],
    ]);
    if (partial) reduction.reduce("sum", partial, dWeight, { outer: 1, reduce: parts, inner: dWeight.length });
  } finally {
    partial?.release();
    heap.free(scratch);
  }
}
