import type { ConvPlan, Triple } from "../kernel_set.js";
import { type Blocks, canonical, cut, forwardGrid, type Grid, inputGradGrids } from "./conv_grid.js";
import { keptForConv } from "./kept.js";

/** At most this many products are summed in registers before they join the target; k is cut into even blocks. */
const K_BLOCK = 320;
/** Units that keep several threads busy to the end, each worth some microseconds. */
const UNITS = 16;
const UNIT_WORK = 1 << 16;
/** A block of the weight gradient: 4 rows of dy of this length are 16 KiB and stay in the first-level cache. */
const DOT_POSITIONS = 1024;
/** Partial weight gradients, in elements: 4 MiB in all unless one alone is larger. */
const PARTIAL_SUMS = 1 << 20;

const volume = (t: Triple): number => t[0] * t[1] * t[2];
const aligned = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** What the launches over one grid need beside addresses; it depends on shapes alone and is kept between calls. */
export interface Pass {
  readonly units: number;
  readonly work: number;
  readonly groups: number;
  readonly rows: number;
  readonly k: number;
  /** Arguments of conv_pack after the addresses; the number of panels it packs. */
  readonly packing: readonly number[];
  readonly panels: number;
  readonly taps: readonly number[];
  /** Bytes of scratch memory: packed weights or partial sums, offsets, taps, and a part of its own for each thread. */
  readonly headBytes: number;
  readonly offsetBytes: number;
  readonly tapBytes: number;
  readonly threadBytes: number;
  /** Arguments that the kernels share, from `batch` on: see class Conv in assembly/lib_conv.ts. */
  readonly shared: readonly number[];
}

export interface WeightGradPass extends Pass {
  readonly imageParts: number;
  readonly partBytes: number;
}

interface Operands {
  readonly rows: number;
  readonly channels: number;
  /** Elements between groups, rows and channels of the weight. */
  readonly strides: readonly [group: number, row: number, channel: number];
}

const keptForPass = <T>(make: (p: ConvPlan) => T) => keptForConv((p) => make(canonical(p)));

export const forwardPass = keptForPass((p): Pass => {
  const [rows, channels] = [p.outChannels / p.groups, p.inChannels / p.groups];
  const taps = volume(p.kernel);
  return correlation(p, forwardGrid(p), { rows, channels, strides: [rows * channels * taps, channels * taps, taps] });
});

/** The passes of the input gradient; `gaps` says that some inputs meet no tap and none of the passes writes them. */
export const inputGradPasses = keptForPass((p): { passes: Pass[]; gaps: boolean } => {
  const [rows, channels] = [p.inChannels / p.groups, p.outChannels / p.groups];
  const taps = volume(p.kernel);
  const strides = [rows * channels * taps, taps, rows * taps] as const;
  const grids = inputGradGrids(p);
  const met = grids.filter((grid) => grid.every((axis) => axis.taps.length > 0));
  return {
    passes: met.map((grid) => correlation(p, grid, { rows, channels, strides })),
    gaps: met.length < grids.length,
  };
});

function correlation(p: ConvPlan, grid: Grid, o: Operands): Pass {
  const images = p.batch * p.groups;
  const taps = grid[0].taps.length * grid[1].taps.length * grid[2].taps.length;
  const work = images * grid[0].out * grid[1].out * grid[2].out * o.rows * o.channels * taps;
  const wanted = Math.min(UNITS, Math.ceil(work / UNIT_WORK)) / (images * grid[0].out);
  const blocks = cut(grid, p.kernel, o.channels, Math.max(1, wanted), Number.POSITIVE_INFINITY);
  const base = pass(p, grid, blocks, o);
  return {
    ...base,
    units: images * grid[0].out * blocks.rowBlocks * blocks.columnBlocks,
    work,
    headBytes: aligned(p.groups * base.k * (o.rows === 1 ? 1 : Math.ceil(o.rows / 4) * 4) * 4),
    threadBytes: aligned(128 + o.channels * blocks.plane * 4),
  };
}

export const weightGradPass = keptForPass((p): WeightGradPass => {
  const [rows, channels] = [p.outChannels / p.groups, p.inChannels / p.groups];
  const grid = forwardGrid(p);
  const size = p.outChannels * channels * volume(p.kernel);
  const work = p.batch * volume(p.output) * size;
  const units = Math.min(UNITS, Math.ceil(work / UNIT_WORK));
  const imageParts = Math.max(1, Math.min(p.batch, units, Math.floor(PARTIAL_SUMS / size)));
  // A lone row keeps its sums four taps at a time, and a quad must not lie across two parts.
  const channelParts = rows === 1 ? 1 : Math.min(channels, Math.ceil(units / (imageParts * p.groups)));
  const partChannels = Math.ceil(channels / channelParts);
  const blocks = cut(grid, p.kernel, partChannels, 1, DOT_POSITIONS);

  const quads = Math.ceil((blocks.rows * Math.ceil(blocks.columns / 4)) / 16) * 16;
  const whole = p.output[2] % 4 === 0 && (blocks.columnBlocks === 1 || blocks.rows === 1);
  const copyFloats = whole ? 0 : rows * quads * 4;
  // Nothing to pack: the launch of conv_pack expands the offsets alone.
  const base = pass({ ...p, groups: 0 }, grid, blocks, { rows, channels, strides: [0, 0, 0] });
  const groupSums = rows === 1 ? Math.ceil(base.k / 4) * 4 : Math.ceil(rows / 4) * 4 * base.k;
  const partBytes = p.groups * groupSums * 4;
  const [batch, , ...rest] = base.shared;
  return {
    ...base,
    units: imageParts * p.groups * channelParts,
    work,
    groups: p.groups,
    headBytes: aligned(imageParts * partBytes),
    threadBytes: aligned((quads + copyFloats + partChannels * blocks.plane) * 4),
    shared: [batch!, p.groups, ...rest, imageParts, channelParts, partBytes, Number(!whole), copyFloats, quads],
    imageParts,
    partBytes,
  };
});

function pass(p: ConvPlan, grid: Grid, b: Blocks, { rows, channels, strides }: Operands) {
  const count = b.taps.length;
  const k = channels * count;
  const kBlock = Math.ceil(k / Math.ceil(k / K_BLOCK));
  const axes = (["source", "target", "out", "start", "step", "origin", "stride"] as const).flatMap((field) =>
    grid.map((axis) => axis[field]),
  );
  return {
    groups: p.groups,
    rows,
    k,
    packing: [p.groups, rows, channels, count, kBlock, ...strides, b.plane],
    panels: p.groups * (rows === 1 ? 1 : Math.ceil(rows / 4)),
    taps: b.taps.flat(),
    offsetBytes: aligned(k * 4),
    tapBytes: aligned(count * 8),
    shared: [
      ...[p.batch, p.groups, channels, rows, count, kBlock, ...axes],
      ...[b.rows, b.columns, b.rowBlocks, b.columnBlocks],
      ...[b.slabs, b.slabStep, b.rowExtent, b.phases, b.phaseLength, b.plane],
    ],
  };
}
