import type { ConvPlan, Triple } from "../kernel_set.js";

/**
 * One axis of a grid of positions: position i is target element start + i * step; tap [index, offset] reads source
 * element origin + i * stride + offset. Offsets are >= 0.
 */
export interface Axis {
  readonly source: number;
  readonly target: number;
  readonly out: number;
  readonly start: number;
  readonly step: number;
  readonly origin: number;
  readonly stride: number;
  readonly taps: readonly (readonly [index: number, offset: number])[];
}
export type Grid = readonly [depth: Axis, height: Axis, width: Axis];

/** How a grid is cut into blocks, and how the source part of a block lies in scratch memory, in elements. */
export interface Blocks {
  readonly rows: number;
  readonly columns: number;
  readonly rowBlocks: number;
  readonly columnBlocks: number;
  readonly slabs: number;
  readonly slabStep: number;
  readonly rowExtent: number;
  readonly phases: number;
  readonly phaseLength: number;
  /** From one channel to the next. */
  readonly plane: number;
  /** Pairs: flat position in the kernel, offset in the copy in bytes. */
  readonly taps: readonly (readonly [index: number, bytes: number])[];
}

/** The source copy of a block: 256 KiB, a quarter to a half of a second-level cache. */
const COPY = 1 << 16;
const MAX_COLUMNS = 512;

const product = (t: Triple): number => t[0] * t[1] * t[2];
const isPoint = (p: ConvPlan, a: number): boolean =>
  p.kernel[a] === 1 && p.stride[a] === 1 && p.padding[a] === 0 && p.input[a] === p.output[a];

/**
 * The same convolution in the form that vectorises best: a 1x1 kernel sees the image as one row, and axes of length 1
 * at the end (a column of values) move to the front.
 */
export function canonical(p: ConvPlan): ConvPlan {
  if ([0, 1, 2].every((a) => isPoint(p, a))) {
    const row: Triple = [1, 1, product(p.input)];
    return { ...p, input: row, output: row };
  }
  if (!isPoint(p, 2) || p.input[2] !== 1) return p;
  const turn = (t: Triple): Triple => [t[2], t[0], t[1]];
  return canonical({
    ...p,
    input: turn(p.input),
    output: turn(p.output),
    kernel: turn(p.kernel),
    stride: turn(p.stride),
    padding: turn(p.padding),
    dilation: turn(p.dilation),
  });
}

/** Positions are outputs; the source is x. */
export function forwardGrid(p: ConvPlan): Grid {
  const axis = (a: 0 | 1 | 2): Axis => ({
    source: p.input[a],
    target: p.output[a],
    out: p.output[a],
    start: 0,
    step: 1,
    origin: -p.padding[a],
    stride: p.stride[a],
    taps: Array.from({ length: p.kernel[a] }, (_, t) => [t, t * p.dilation[a]] as const),
  });
  return [axis(0), axis(1), axis(2)];
}

/**
 * Positions are inputs; the source is dy. Input i meets output q through tap t when i + padding = q * stride + t * dilation,
 * so inputs with one remainder r = (i + padding) mod stride share their taps, and read dy at q = j - (t * dilation - r) /
 * stride for j = floor((i + padding) / stride): a convolution of stride 1 for each r.
 */
export function inputGradGrids(p: ConvPlan): Grid[] {
  const axes = (a: 0 | 1 | 2): Axis[] => {
    const [stride, padding] = [p.stride[a], p.padding[a]];
    return Array.from({ length: stride }, (_, r) => {
      const met = Array.from({ length: p.kernel[a] }, (_, t) => t).filter((t) => (t * p.dilation[a]) % stride === r);
      const back = (t: number) => (t * p.dilation[a] - r) / stride;
      const furthest = met.length > 0 ? back(met.at(-1)!) : 0;
      const first = Math.ceil((padding - r) / stride);
      const last = Math.floor((p.input[a] - 1 + padding - r) / stride);
      return {
        source: p.output[a],
        target: p.input[a],
        out: Math.max(0, last - first + 1),
        start: first * stride + r - padding,
        step: stride,
        origin: first - furthest,
        stride: 1,
        taps: met.reverse().map((t) => [t, furthest - back(t)] as const),
      };
    }).filter((axis) => axis.out > 0);
  };
  const [depths, heights, widths] = [axes(0), axes(1), axes(2)];
  return depths.flatMap((d) => heights.flatMap((h) => widths.map((w): Grid => [d, h, w])));
}

const extent = (axis: Axis): number => axis.taps.at(-1)![1] + 1;

/** A grid with at least one tap, cut for `channels` source channels, into at least `wanted` rows of blocks if it can. */
export function cut(
  [depth, height, width]: Grid,
  kernel: Triple,
  channels: number,
  wanted: number,
  maxPositions: number,
): Blocks {
  const slabs = depth.taps.length;
  const slabStep = slabs > 1 ? depth.taps[1]![1] : 1;
  const rowExtent = extent(height);
  const phases = Math.min(width.stride, extent(width));
  const beyond = Math.floor((extent(width) - 1) / width.stride);
  const lengthFor = (n: number) => Math.ceil(n / 4) * 4 + beyond;
  const lines = channels * slabs * phases;

  let columns = Math.min(width.out, MAX_COLUMNS);
  while (columns > 64 && lines * rowExtent * lengthFor(columns) > COPY) columns = Math.ceil(columns / 8) * 4;
  const phaseLength = lengthFor(columns);
  const columnBlocks = Math.ceil(width.out / columns);

  const fitting = Math.floor((COPY / (lines * phaseLength) - rowExtent) / height.stride) + 1;
  const most = Math.min(height.out, fitting, Math.floor(maxPositions / columns), Math.ceil(height.out / wanted));
  const rowBlocks = Math.ceil(height.out / Math.max(1, most));
  const rows = Math.ceil(height.out / rowBlocks);

  const slab = ((rows - 1) * height.stride + rowExtent) * phases * phaseLength;
  // An odd number of cache lines from channel to channel keeps channels out of each other's cache sets.
  const plane = (Math.ceil((slabs * slab) / 16) | 1) * 16;
  const taps = depth.taps.flatMap(([d], slabIndex) =>
    height.taps.flatMap(([h, row]) =>
      width.taps.map(([w, column]) => {
        const line = row * phases + (column % width.stride);
        const at = slabIndex * slab + line * phaseLength + Math.floor(column / width.stride);
        return [(d * kernel[1] + h) * kernel[2] + w, at * 4] as const;
      }),
    ),
  );
  return { rows, columns, rowBlocks, columnBlocks, slabs, slabStep, rowExtent, phases, phaseLength, plane, taps };
}
