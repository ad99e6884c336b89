// What the column-normalization kernels share: their arguments, and which columns belong to which channel and
// statistic.
//
// A sheet is x as [batch, rows, width columns, run]: each column is summed on its own, then columns are merged into
// statistics.
// - Runs (long inner axis): rows = outer, width = channels, run = inner. A column is `rows` runs of contiguous floats.
// - Tiles (short inner axis): run = 1, and neighbouring columns lie in neighbouring SIMD lanes. Narrow rows are folded:
//   width = fold * channels * span (span = inner), rows = floor(outer / fold). The outer % fold rows left over are the
//   "rest": `restWidth` floats behind the last whole row of a batch entry.
// Rows (and runs, where rows are few) are cut into blocks, each with partial sums per column in float64.

@unmanaged export class Sheet {
  x: f64; dy: f64; y: f64; weight: f64; bias: f64;
  mean: f64; variance: f64; singleStats: f64; eps: f64;
  batch: f64; channels: f64; merge: f64; count: f64;
  rows: f64; width: f64; run: f64; span: f64; restWidth: f64;
  blockRows: f64; rowBlocks: f64; blockRun: f64; runBlocks: f64; blockWidth: f64;
  /** Partial sums, two of float64 per column: [2][batch][blocks][partStride]. */
  parts: f64; partStride: f64; partPlane: f64;
  /**
   * float32 constants: for each four columns their CENTRE, their SCALE and so on lie side by side, so that a pass over
   * rows reads one stream of them. `tableStep` bytes for four columns, `tableEntry` for all columns of a batch entry.
   */
  table: f64; tableStep: f64; tableEntry: f64;
  /** Sums of dy and dy * (x - mean): float64 [2][batch * channels]. */
  sums: f64; dWeight: f64; dBias: f64; frozen: f64;
  /** Memory of one thread: `scratchStride` bytes for each. */
  scratch: f64; scratchStride: f64;
  /** How many values each statistic was taken from, float64; 0: `count`, as many as x has. */
  counts: f64;
  /** Code of the activation that y goes through, plus one; 0 for none. */
  activation: f64; alpha: f64;
  /** The gradient to what goes into the activation, written in the pass that sums; dy itself where there is none. */
  dz: f64;
  /** Whether a pass over tiles goes through four rows at a time. */
  together: f64;
  /** Neighbouring groups in a unit of the kernels that take whole groups. */
  unitGroups: f64;
}

/** Bytes from the place of four columns in the table: y = (x - CENTRE) * SCALE + OFFSET. */
export const CENTRE: usize = 0;
export const SCALE: usize = 16;
export const OFFSET: usize = 32;
/** Gradient only: dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE. */
export const SLOPE: usize = 48;
export const DY_CENTRE: usize = 64;
/** `tableStep` of a gradient. */
export const GRAD_STEP: usize = 80;

/** Where a column's first constant lies in a table. */
@inline export function placeOf(column: usize, tableStep: usize): usize {
  return (column >> 2) * tableStep + ((column & 3) << 2);
}

/** The table of a batch entry, or of the thread that has it. */
@inline export function tableOf(a: Sheet, slot: usize): usize { return <usize>a.table + slot * <usize>a.tableEntry; }

/** Bytes of one batch entry of x. */
@inline export function entryBytes(a: Sheet): usize {
  return (<usize>a.rows * <usize>a.width * <usize>a.run + <usize>a.restWidth) << 2;
}

@inline export function loadStat(base: usize, index: usize, single: bool): f64 {
  return single ? <f64>load<f32>(base + (index << 2)) : load<f64>(base + (index << 3));
}

/** Element of an optional float32 array: `missing` where there is none. */
@inline export function loadOr(base: usize, index: usize, missing: f64): f64 {
  return base != 0 ? <f64>load<f32>(base + (index << 2)) : missing;
}

/** Address of partial sum `which` of column 0 in a block. */
@inline export function partAddress(a: Sheet, which: usize, entry: usize, block: usize): usize {
  const blocks = <usize>a.rowBlocks * <usize>a.runBlocks;
  return <usize>a.parts + ((which * <usize>a.partPlane + (entry * blocks + block) * <usize>a.partStride) << 3);
}

/**
 * Fills one constant in the columns of a channel: `span` neighbours, again every `step` columns. `base` is its place
 * for column 0.
 */
@inline export function spread(
  base: usize, tableStep: usize, channel: usize, span: usize, step: usize, width: usize, value: f32,
): void {
  const four = f32x4.splat(value);
  for (let from = channel * span; from < width; from += step) {
    const end = from + span;
    let column = from;
    for (; column < end && (column & 3) != 0; column++) store<f32>(base + placeOf(column, tableStep), value);
    for (; column + 4 <= end; column += 4) v128.store(base + placeOf(column, tableStep), four);
    for (; column < end; column++) store<f32>(base + placeOf(column, tableStep), value);
  }
}
