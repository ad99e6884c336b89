import type { ColumnView } from "../../norm/views.js";
import { kept } from "./kept.js";

/** Inner axes from this length on are summed run by run; shorter ones with channels side by side in SIMD lanes. */
const LONG_RUN = 256;
/** Without sums runs pay earlier: a run needs three constants, a row of columns three for each. */
const LONG_RUN_APPLY = 128;
/** Where a row is so wide that its constants outgrow half a second-level cache, earlier still. */
const WIDE_ROW = 1 << 15;
const WIDE_RUN_APPLY = 32;
/** With few rows a column's sums are soon done, and what each column of a tile costs weighs more than a run's start. */
const RUN_PER_ROW = 24;
/** Elements of x that one unit works on where a channel or a batch entry is cut into blocks. */
const BLOCK = 1 << 19;
const SMALL_BLOCK = 1 << 13;
/** Elements up to which one unit does it all: a second thread would gain less than the launches cost. */
const SMALL = 1 << 15;
/** Units that are enough for every thread to have work. */
const ENOUGH_UNITS = 16;
/**
 * Columns of a tile. Narrower tiles keep their sums in the first-level cache, but jump in memory from row to row:
 * passes over [3136, 2048] in tiles of 1024 took three times as long as in whole rows.
 */
const TILE_WIDTH = 16384;
/** Where all of x stays in the cache, short pieces of rows cost nothing; more units and fewer blocks of rows gain. */
const TILE_WIDTH_CACHED = 256;
const CACHED = 1 << 20;
/** Elements up to which x and y stay in the last-level cache. */
const IN_CACHE = 1 << 21;
/** Floats of a piece of memory that reads about as fast as one stream. */
const PIECE = 24_000;
/** Elements of x that a unit may have for its second pass to find them in the last-level cache. */
const UNIT_DATA = 1 << 20;
const LEAST_UNITS = 8;
/** Rows narrower than this are folded, several to a row of a tile. */
const NARROW = 64;

/**
 * How a column view is cut, from its shape alone, so that any number of threads gives the same bits.
 * The fields are those of Sheet in assembly/lib_column_sheet.ts.
 */
export interface ColumnPlan {
  readonly tiles: boolean;
  /** Statistics and result of a unit in one go, while its data is in the cache. */
  readonly fused: boolean;
  readonly rows: number;
  readonly width: number;
  readonly run: number;
  readonly span: number;
  readonly restWidth: number;
  readonly blockRows: number;
  readonly rowBlocks: number;
  readonly blockRun: number;
  readonly runBlocks: number;
  readonly blockWidth: number;
  /** Tiles: whether a pass with statistics goes through four rows at a time rather than two. */
  readonly together: boolean;
  /** Runs, fused: neighbouring groups of a unit. */
  readonly unitGroups: number;
}

const sameView = (a: ColumnView, b: ColumnView): boolean =>
  a.batch === b.batch && a.outer === b.outer && a.channels === b.channels && a.inner === b.inner && a.merge === b.merge;

export const planOf = kept(sameView, (view): ColumnPlan => plan(view, LONG_RUN));

/** For a call that does part of the work only: nothing of it can be fused. */
export const planPart = kept(sameView, (view): ColumnPlan => ({ ...planOf(view), fused: false }));

/** For a pass with given statistics. */
export const planApply = kept(sameView, (view): ColumnPlan => {
  const wide = view.channels * view.inner > WIDE_ROW;
  return { ...plan(view, wide ? WIDE_RUN_APPLY : LONG_RUN_APPLY), fused: false };
});

const plan = (view: ColumnView, long: number): ColumnPlan =>
  view.inner >= Math.min(long, RUN_PER_ROW * view.outer) ? planRuns(view) : planTiles(view);

const clamp = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));

/** Elements of a block when `total` are to be shared out. */
const blockSize = (total: number): number => clamp(Math.ceil(total / ENOUGH_UNITS), SMALL_BLOCK, BLOCK);

/** Groups that make long pieces of memory, but no more than leave units for all threads, and than a cache holds. */
function unitGroups({ batch, outer, channels, inner, merge }: ColumnView, total: number): number {
  if (total <= SMALL) return 1;
  const groups = channels / merge;
  const piece = merge * inner;
  const most = Math.min(Math.floor((batch * groups) / LEAST_UNITS), Math.floor(UNIT_DATA / (outer * piece)));
  return clamp(Math.ceil(PIECE / piece), 1, Math.max(1, Math.min(groups, most)));
}

function planRuns(view: ColumnView): ColumnPlan {
  const { batch, outer, channels, inner, merge } = view;
  const total = batch * outer * channels * inner;
  const fused = (batch * channels) / merge >= ENOUGH_UNITS || total <= SMALL;
  const wanted = Math.ceil((outer * inner) / blockSize(total));
  const blockRows = Math.ceil(outer / Math.min(wanted, outer));
  const rowBlocks = Math.ceil(outer / blockRows);
  // Few long runs are cut themselves, at multiples of 32 floats, which the loops take at a time.
  const blockRun = Math.min(inner, Math.ceil(inner / Math.ceil(wanted / rowBlocks) / 32) * 32);
  return {
    tiles: false,
    fused,
    rows: outer,
    width: channels,
    run: inner,
    span: 1,
    restWidth: 0,
    blockRows,
    rowBlocks,
    blockRun,
    runBlocks: Math.ceil(inner / blockRun),
    blockWidth: channels,
    together: false,
    unitGroups: fused ? unitGroups(view, total) : 1,
  };
}

function planTiles({ batch, outer, channels, inner }: ColumnView): ColumnPlan {
  const row = channels * inner;
  const total = batch * outer * row;
  // A multiple of 4 rows makes whole vectors of any width.
  const fold = row < NARROW ? Math.ceil(NARROW / row / 4) * 4 : 1;
  const folds = outer >= fold * 16 ? fold : 1;
  const rows = Math.floor(outer / folds);
  const width = row * folds;
  const fused = outer * row <= BLOCK && (batch >= ENOUGH_UNITS || total <= SMALL);
  const blockWidth = fused ? width : Math.min(width, total <= CACHED ? TILE_WIDTH_CACHED : TILE_WIDTH);
  const blockRows = fused ? rows : clamp(Math.ceil(blockSize(total) / blockWidth), Math.min(64, rows), rows);
  return {
    tiles: true,
    fused,
    rows,
    width,
    run: 1,
    span: inner,
    restWidth: (outer % folds) * row,
    blockRows,
    rowBlocks: Math.ceil(rows / blockRows),
    blockRun: 1,
    runBlocks: 1,
    blockWidth,
    together: total <= IN_CACHE,
    unitGroups: 1,
  };
}
