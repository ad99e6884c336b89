import { heap, type Slot } from "../../memory/heap.js";
import type { ConvPlan } from "../kernel_set.js";
import { kernelArgs, listArgs, run, scratchPlaces } from "../threads/pool.js";
import { keptForConv } from "./kept.js";
import { kernelIndex } from "./module.js";

const KERNELS = kernelIndex("winograd_kernels");
const TILES_OF = kernelIndex("winograd_tiles");
const WEIGHT_GRAD = kernelIndex("winograd_weight_grad");
const WEIGHT_MERGE = kernelIndex("winograd_weight_merge");

/** Tiles of a unit, and channels summed at a time: one component of the source is then about a first-level cache. */
const TILES = 100;
const K_BLOCK = 128;
/** Floats of a unit's transformed source, and of the products before the transform back: 512 KiB and 256 KiB. */
const SOURCE = 1 << 17;
const PRODUCTS = 1 << 16;
const UNITS = 16;
/** Rows and channels of a unit of the weight gradient, and the floats of both transformed, 1 MiB. */
const WEIGHT_ROWS = 64;
const WEIGHT_CHANNELS = 128;
const WEIGHT_TILES = 160;
const WEIGHT_SOURCE = 1 << 18;
/** Tiles that are worth partial sums of their own. */
const FEW_TILES = 64;
/** Partial weight gradients, in elements: about 4 MiB in all unless one alone is larger. */
const PARTIAL_SUMS = 1 << 20;

/** Nanoseconds of nine products of a convolution, of a kernel transformed, of a float of partial sums merged. */
const TAPS_WORK = 0.2;
const KERNEL_WORK = 6;
const MERGE_WORK = 0.3;

const aligned = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** A 3x3 convolution of stride 1 over [batch, channels, height, width], or its input gradient. */
interface Filter {
  readonly batch: number;
  readonly channels: number;
  readonly rows: number;
  readonly source: readonly [height: number, width: number];
  readonly target: readonly [height: number, width: number];
  /** Target (i, j) reads the source from (i, j) + origin on. */
  readonly origin: readonly [height: number, width: number];
  /** Elements between rows and channels of the weight; the input gradient turns its kernels by 180 degrees. */
  readonly rowStride: number;
  readonly channelStride: number;
  readonly flip: boolean;
}

/**
 * 3x3, stride 1, no dilation, one group, one depth; from 4 channels to 2 on, below which the transforms cost more than
 * the products they save (28x28 and 8x8 images: 3 channels 1.0 of the direct kernel's time, 4 0.85, 32 0.48).
 */
function fits(p: ConvPlan, channels: number, rows: number): boolean {
  if (p.kernel[1] !== 3 || p.kernel[2] !== 3 || p.groups !== 1 || channels < 4 || rows < 2) return false;
  const flat = p.kernel[0] === 1 && p.padding[0] === 0 && p.input[0] === 1;
  return flat && [0, 1, 2].every((a) => p.stride[a] === 1 && p.dilation[a] === 1);
}

function forwardFilter(p: ConvPlan): Filter | null {
  if (!fits(p, p.inChannels, p.outChannels)) return null;
  return {
    batch: p.batch,
    channels: p.inChannels,
    rows: p.outChannels,
    source: [p.input[1], p.input[2]],
    target: [p.output[1], p.output[2]],
    origin: [-p.padding[1], -p.padding[2]],
    rowStride: p.inChannels * 9,
    channelStride: 9,
    flip: false,
  };
}

function inputGradFilter(p: ConvPlan): Filter | null {
  if (!fits(p, p.outChannels, p.inChannels)) return null;
  return {
    batch: p.batch,
    channels: p.outChannels,
    rows: p.inChannels,
    source: [p.output[1], p.output[2]],
    target: [p.input[1], p.input[2]],
    origin: [p.padding[1] - 2, p.padding[2] - 2],
    rowStride: 9,
    channelStride: p.inChannels * 9,
    flip: true,
  };
}

/** From component to component of kernels and of sums: an odd number of cache lines, in which rows are whole panels. */
const componentFloats = (rows: number, channels: number): number => (Math.ceil(rows / 4) * 4 * channels) | 16;

/** Floats for 4 vectors of each row and quad of columns of one image, and for an image narrower than a vector. */
const copyOf = ([height]: readonly [number, number], lines: number, columns: number): number =>
  (2 * lines + 2) * 16 * Math.ceil(columns / 4) + height * 4;

/** What the launches need beside addresses; it depends on shapes alone and is kept between calls. */
interface Winograd {
  /** Bytes of scratch memory: transformed kernels or partial sums, and a part of its own for each thread. */
  readonly headBytes: number;
  readonly threadBytes: number;
  /** Of the pass that transforms kernels, or the one that merges sums, and of the pass over tiles. */
  readonly kernelUnits: number;
  readonly kernelWork: number;
  readonly kernelArgs: readonly number[];
  readonly tileUnits: number;
  readonly tileWork: number;
  readonly tileArgs: readonly number[];
}

function winogradPlan(f: Filter): Winograd {
  const { channels, rows } = f;
  const imageLines = Math.ceil(f.target[0] / 2);
  const columns = Math.ceil(f.target[1] / 2);
  const lines = f.batch * imageLines;
  const most = Math.min(TILES, Math.max(16, Math.floor(SOURCE / 16 / channels)));
  const columnUnits = Math.ceil(columns / most);
  const unitColumns = Math.ceil(columns / columnUnits);
  const unitLines = Math.min(Math.max(1, Math.floor(most / unitColumns)), Math.ceil(lines / UNITS));
  const lineUnits = Math.ceil(lines / unitLines);
  const panels = Math.ceil(rows / 4);
  const rowUnits = Math.min(Math.ceil(rows / 64), Math.ceil(UNITS / (lineUnits * columnUnits)));
  const unitRows = Math.ceil(panels / rowUnits) * 4;
  // An odd number of cache lines from channel to channel keeps channels out of each other's cache sets.
  const length = (Math.ceil((unitLines * unitColumns + 4) / 16) | 1) * 16;
  const rowBlock = Math.min(unitRows, Math.max(4, Math.floor(PRODUCTS / 16 / length / 4) * 4));
  const kBlock = Math.ceil(channels / Math.ceil(channels / K_BLOCK));
  const copyFloats = copyOf(f.source, Math.min(unitLines, imageLines), unitColumns);
  const copyAligned = Math.ceil(copyFloats / 16) * 16;
  const packedBytes = aligned(16 * componentFloats(rows, channels) * 4);
  const threadBytes = aligned(64 + (copyAligned + 16 * ((channels + rowBlock) * length + 32)) * 4);
  return {
    headBytes: packedBytes,
    threadBytes,
    kernelUnits: panels,
    kernelWork: rows * channels * KERNEL_WORK,
    kernelArgs: [rows, channels, f.rowStride, f.channelStride, kBlock, Number(f.flip)],
    tileUnits: lineUnits * columnUnits * rowUnits,
    tileWork: 4 * lines * columns * rows * channels * TAPS_WORK,
    tileArgs: [
      ...[threadBytes, channels, rows, kBlock, ...f.source, ...f.target, ...f.origin],
      ...[imageLines, lines, unitLines, columns, unitColumns, columnUnits, unitRows, Math.ceil(rows / unitRows)],
      ...[rowBlock, length, copyAligned],
    ],
  };
}

export const winogradForward = keptForConv((p) => {
  const filter = forwardFilter(p);
  return filter && winogradPlan(filter);
});

export const winogradInputGrad = keptForConv((p) => {
  const filter = inputGradFilter(p);
  return filter && winogradPlan(filter);
});

/**
 * Winograd's F(2x2, 3x3): 16 products for 36. Error against float64 beside the direct kernel's, as a part of the largest
 * output, uniform input: 3.8e-7 and 4.6e-7 with 64 channels, 4.1e-7 and 4.6e-7 with 128: its sums are nine times shorter.
 */
export function winograd(source: Slot, weight: Slot, bias: Slot | null, target: Slot, w: Winograd): void {
  const block = heap.allocate(w.headBytes + scratchPlaces() * w.threadBytes);
  try {
    const packed = heap.address(block);
    const a = kernelArgs();
    a[0] = weight.ptr;
    a[1] = packed;
    listArgs(2, w.kernelArgs);
    run(KERNELS, w.kernelUnits, w.kernelWork);
    a[0] = source.ptr;
    a[1] = packed;
    a[2] = target.ptr;
    a[3] = bias ? bias.ptr : 0;
    a[4] = packed + w.headBytes;
    listArgs(5, w.tileArgs);
    run(TILES_OF, w.tileUnits, w.tileWork);
  } finally {
    heap.free(block);
  }
}

function weightGradPlan(f: Filter): Winograd {
  const { channels, rows } = f;
  const imageLines = Math.ceil(f.target[0] / 2);
  const columns = Math.ceil(f.target[1] / 2);
  const lines = f.batch * imageLines;
  const unitRows = Math.ceil(rows / Math.ceil(rows / WEIGHT_ROWS) / 4) * 4;
  const rowUnits = Math.ceil(rows / unitRows);
  const channelUnits = Math.ceil(channels / WEIGHT_CHANNELS);
  const unitChannels = Math.ceil(channels / channelUnits / 2) * 2;
  const most = Math.min(WEIGHT_TILES, Math.max(16, Math.floor(WEIGHT_SOURCE / 16 / (unitRows + unitChannels))));
  const columnUnits = Math.ceil(columns / most);
  const unitColumns = Math.ceil(columns / columnUnits);
  const size = 16 * componentFloats(rows, channels);
  const unitLines = Math.min(Math.max(1, Math.floor(most / unitColumns)), lines);
  const wanted = Math.min(Math.ceil(UNITS / (rowUnits * channelUnits)), Math.round(PARTIAL_SUMS / size));
  // Small sums are cut in up to four, so that there is work for several threads.
  const few = Math.min(4, Math.floor((lines * columns) / FEW_TILES), lines);
  const parts = Math.max(1, Math.min(wanted, Math.max(few, Math.floor(lines / unitLines))));
  const length = (Math.ceil((unitLines * unitColumns + 4) / 16) | 1) * 16;
  const copyFloats = Math.max(copyOf(f.source, Math.min(unitLines, imageLines), unitColumns), f.target[0] * 4);
  const copyAligned = Math.ceil(copyFloats / 16) * 16;
  const sumBytes = parts * size * 4;
  const threadBytes = aligned((copyAligned + 16 * ((unitChannels + unitRows) * length + 32)) * 4);
  return {
    headBytes: sumBytes,
    threadBytes,
    kernelUnits: Math.ceil(rows / 4),
    kernelWork: parts * size * MERGE_WORK,
    kernelArgs: [rows, channels, parts],
    tileUnits: parts * rowUnits * channelUnits,
    tileWork: 4 * lines * columns * rows * channels * TAPS_WORK,
    tileArgs: [
      ...[threadBytes, channels, rows, 0, ...f.source, ...f.target, ...f.origin],
      ...[imageLines, lines, unitLines, columns, unitColumns, columnUnits, unitRows, rowUnits],
      ...[0, length, copyAligned, unitChannels, channelUnits, parts],
    ],
  };
}

/** From 8 channels to 8 on (8 to 8: 0.9 to 1.0 of the direct kernel's time), with dy as the target. */
export const winogradWeightGrad = keptForConv((p) => {
  const filter = p.inChannels >= 8 && p.outChannels >= 8 ? forwardFilter(p) : null;
  return filter && weightGradPlan(filter);
});

/** Weight gradient by F(3x3, 2x2): the same transform of x, sums over tiles, and a transform of the sums. */
export function winogradWeights(x: Slot, dy: Slot, dWeight: Slot, w: Winograd): void {
  const block = heap.allocate(w.headBytes + scratchPlaces() * w.threadBytes);
  try {
    const sums = heap.address(block);
    const a = kernelArgs();
    a[0] = x.ptr;
    a[1] = sums;
    a[2] = dy.ptr;
    a[3] = 0;
    a[4] = sums + w.headBytes;
    listArgs(5, w.tileArgs);
    run(WEIGHT_GRAD, w.tileUnits, w.tileWork);
    a[0] = sums;
    a[1] = dWeight.ptr;
    listArgs(2, w.kernelArgs);
    run(WEIGHT_MERGE, w.kernelUnits, w.kernelWork);
  } finally {
    heap.free(block);
  }
}
