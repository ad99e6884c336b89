import { UnsupportedKernel } from "../../base/errors.js";
import { heap, type Slot } from "../../memory/heap.js";
import type { ConvPlan, KernelSet } from "../kernel_set.js";
import { launch, scratchPlaces } from "../threads/pool.js";
import { type Blocks, canonical, cut, forwardGrid, type Grid, inputGradGrids } from "./conv_grid.js";

/** Products summed in registers before they join the target; also the part of the weights that passes at once. */
const K_BLOCK = 256;
/** Units that keep several threads busy to the end, each worth some microseconds. */
const UNITS = 16;
const UNIT_WORK = 1 << 16;
/** A block of the weight gradient: 4 rows of dy of this length are 16 KiB and stay in the first-level cache. */
const DOT_POSITIONS = 1024;
/** Partial weight gradients, in elements: 4 MiB in all unless one alone is larger. */
const PARTIAL_SUMS = 1 << 20;

const volume = (t: readonly [number, number, number]): number => t[0] * t[1] * t[2];
const aligned = (bytes: number): number => Math.ceil(bytes / 64) * 64;

function onlyFloat32(...slots: (Slot | null)[]): void {
  if (slots.some((slot) => slot && slot.dtype !== "float32")) {
    throw new UnsupportedKernel("convolution has WASM kernels for float32 only");
  }
}

function zero(y: Slot): void {
  launch("fill", Math.ceil(y.length / 4096), y.length, [y.ptr, y.length, 0, 4096]);
}

export const conv: Pick<KernelSet, "conv" | "convInputGrad" | "convWeightGrad"> = {
  conv(x, weight, bias, y, plan) {
    onlyFloat32(x, weight, bias, y);
    if (y.length === 0) return;
    const p = canonical(plan);
    const [rows, channels] = [p.outChannels / p.groups, p.inChannels / p.groups];
    const taps = volume(p.kernel);
    const strides = { group: rows * channels * taps, row: channels * taps, channel: taps };
    correlate(x, weight, bias, y, p, forwardGrid(p), rows, channels, strides);
  },

  convInputGrad(dy, weight, dx, plan) {
    onlyFloat32(dy, weight, dx);
    if (dx.length === 0) return;
    const p = canonical(plan);
    const [rows, channels] = [p.inChannels / p.groups, p.outChannels / p.groups];
    const taps = volume(p.kernel);
    const strides = { group: rows * channels * taps, row: taps, channel: rows * taps };
    const grids = inputGradGrids(p);
    const met = dy.length === 0 ? [] : grids.filter((grid) => grid.every((axis) => axis.taps.length > 0));
    if (met.length < grids.length) zero(dx);
    for (const grid of met) correlate(dy, weight, null, dx, p, grid, rows, channels, strides);
  },

  convWeightGrad(x, dy, dWeight, plan) {
    onlyFloat32(x, dy, dWeight);
    if (dWeight.length === 0) return;
    if (x.length === 0 || dy.length === 0) zero(dWeight);
    else weightGrad(x, dy, dWeight, canonical(plan));
  },
};

interface WeightStrides {
  readonly group: number;
  readonly row: number;
  readonly channel: number;
}

/** Packs weights and the offsets of taps; with no `packed`, the offsets alone. */
function pack(
  weight: Slot,
  packed: number | null,
  offsets: number,
  taps: number,
  blocks: Blocks,
  groups: number,
  rows: number,
  channels: number,
  strides: WeightStrides,
): void {
  heap.words.set(blocks.taps.flat(), taps / 4);
  const packedGroups = packed === null ? 0 : groups;
  const panels = rows === 1 ? 1 : Math.ceil(rows / 4);
  const k = channels * blocks.taps.length;
  launch("conv_pack", packedGroups * panels + 1, packedGroups * rows * k, [
    ...[weight.ptr, packed ?? 0, offsets, taps, packedGroups, rows, channels, blocks.taps.length, K_BLOCK],
    ...[strides.group, strides.row, strides.channel, blocks.plane],
  ]);
}

/** The arguments that the kernels share: see class Conv in assembly/lib_conv.ts. */
function shared(p: ConvPlan, grid: Grid, b: Blocks, channels: number, rows: number): number[] {
  const each = (field: "source" | "target" | "out" | "start" | "step" | "origin" | "stride") =>
    grid.map((axis) => axis[field]);
  return [
    ...[p.batch, p.groups, channels, rows, b.taps.length, K_BLOCK],
    ...(["source", "target", "out", "start", "step", "origin", "stride"] as const).flatMap(each),
    ...[b.rows, b.columns, b.rowBlocks, b.columnBlocks],
    ...[b.slabs, b.slabStep, b.rowExtent, b.phases, b.phaseLength, b.plane],
  ];
}

/**
 * target = weights * source over one grid. Neither im2col nor any other copy of columns: tiles read a padded copy of
 * the image, kernel volume times smaller than its columns.
 */
function correlate(
  source: Slot,
  weight: Slot,
  bias: Slot | null,
  target: Slot,
  p: ConvPlan,
  grid: Grid,
  rows: number,
  channels: number,
  strides: WeightStrides,
): void {
  const images = p.batch * p.groups;
  const positions = grid[0].out * grid[1].out * grid[2].out;
  const taps = grid[0].taps.length * grid[1].taps.length * grid[2].taps.length;
  const k = channels * taps;
  const work = images * positions * rows * k;
  const wanted = Math.min(UNITS, Math.ceil(work / UNIT_WORK)) / (images * grid[0].out);
  const blocks = cut(grid, p.kernel, channels, Math.max(1, wanted), Number.POSITIVE_INFINITY);

  const packedBytes = aligned(p.groups * (rows === 1 ? 1 : Math.ceil(rows / 4) * 4) * k * 4);
  const offsetBytes = aligned(k * 4);
  const tapBytes = aligned(taps * 8);
  const stride = aligned(128 + channels * blocks.plane * 4);
  const block = heap.allocate(packedBytes + offsetBytes + tapBytes + scratchPlaces() * stride);
  try {
    const packed = heap.address(block);
    const offsets = packed + packedBytes;
    const scratch = offsets + offsetBytes + tapBytes;
    pack(weight, packed, offsets, offsets + offsetBytes, blocks, p.groups, rows, channels, strides);
    launch("conv_tiles", images * grid[0].out * blocks.rowBlocks * blocks.columnBlocks, work, [
      ...[source.ptr, packed, target.ptr, bias?.ptr ?? 0, offsets + offsetBytes, offsets, scratch, stride],
      ...shared(p, grid, blocks, channels, rows),
    ]);
  } finally {
    heap.free(block);
  }
}

function weightGrad(x: Slot, dy: Slot, dWeight: Slot, p: ConvPlan): void {
  const [rows, channels] = [p.outChannels / p.groups, p.inChannels / p.groups];
  const grid = forwardGrid(p);
  const taps = volume(p.kernel);
  const k = channels * taps;
  const work = p.batch * volume(p.output) * dWeight.length;
  const units = Math.min(UNITS, Math.ceil(work / UNIT_WORK));
  const imageParts = Math.max(1, Math.min(p.batch, units, Math.floor(PARTIAL_SUMS / dWeight.length)));
  // A lone row keeps its sums four taps at a time, and a quad must not lie across two parts.
  const channelParts = rows === 1 ? 1 : Math.min(channels, Math.ceil(units / (imageParts * p.groups)));
  const partChannels = Math.ceil(channels / channelParts);
  const blocks = cut(grid, p.kernel, partChannels, 1, DOT_POSITIONS);

  const width = p.output[2];
  const quads = Math.ceil((blocks.rows * Math.ceil(blocks.columns / 4)) / 16) * 16;
  const whole = width % 4 === 0 && (blocks.columnBlocks === 1 || blocks.rows === 1);
  const copyFloats = whole ? 0 : rows * quads * 4;
  const groupSums = rows === 1 ? Math.ceil(k / 4) * 4 : Math.ceil(rows / 4) * 4 * k;
  const partBytes = p.groups * groupSums * 4;

  const sumBytes = aligned(imageParts * partBytes);
  const offsetBytes = aligned(k * 4);
  const tapBytes = aligned(taps * 8);
  const stride = aligned((quads + copyFloats + partChannels * blocks.plane) * 4);
  const block = heap.allocate(sumBytes + offsetBytes + tapBytes + scratchPlaces() * stride);
  try {
    const sums = heap.address(block);
    const offsets = sums + sumBytes;
    const scratch = offsets + offsetBytes + tapBytes;
    pack(dWeight, null, offsets, offsets + offsetBytes, blocks, p.groups, rows, channels, {
      group: 0,
      row: 0,
      channel: 0,
    });
    launch("conv_weight_grad", imageParts * p.groups * channelParts, work, [
      ...[x.ptr, dy.ptr, sums, 0, offsets + offsetBytes, offsets, scratch, stride],
      ...shared(p, grid, blocks, channels, rows),
      ...[imageParts, channelParts, partBytes, Number(!whole), copyFloats, quads],
    ]);
    const panels = rows === 1 ? 1 : Math.ceil(rows / 4);
    launch("conv_weight_merge", p.groups * panels, imageParts * dWeight.length, [
      ...[sums, dWeight.ptr, p.groups, rows, k, imageParts, partBytes],
    ]);
  } finally {
    heap.free(block);
  }
}
