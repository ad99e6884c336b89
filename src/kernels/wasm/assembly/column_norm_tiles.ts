// Column normalization where the inner axis is short: SIMD lanes hold neighbouring columns.
import {
  mergeGroups, mergeSums, writeCentres, writeConstants, writeGradConstants, GradConstants,
} from "./lib_column_merge";
import { Sheet, entryBytes, partAddress } from "./lib_column_sheet";
import { tileApply, tileGrad, tileMoments, tileSums } from "./lib_column_tiles";
import { tileActivate, tileDz, tileSumsThrough } from "./lib_column_tiles_activated";

/** Where a unit lies: unit = batch entry x block of rows x block of columns. */
@unmanaged class Tile { entry: usize; block: usize; column: usize; width: usize; at: usize; rows: usize; last: usize; }

@inline function locate(a: Sheet, unit: usize, t: Tile): void {
  const width = <usize>a.width, blockWidth = <usize>a.blockWidth, columnBlocks = (width + blockWidth - 1) / blockWidth;
  const rowBlocks = <usize>a.rowBlocks, step = <usize>a.blockRows;
  t.column = unit % columnBlocks * blockWidth;
  t.block = unit / columnBlocks % rowBlocks;
  t.entry = unit / columnBlocks / rowBlocks;
  t.width = min(blockWidth, width - t.column);
  t.rows = min(step, <usize>a.rows - t.block * step);
  t.at = t.entry * entryBytes(a) + ((t.block * step * width + t.column) << 2);
  t.last = t.block == rowBlocks - 1 && t.column + t.width == width ? 1 : 0;
}

@inline function tileUnits(a: Sheet): usize {
  return <usize>a.batch * <usize>a.rowBlocks * ((<usize>a.width + <usize>a.blockWidth - 1) / <usize>a.blockWidth);
}

@inline function scratchOf(a: Sheet, worker: i32): usize {
  return <usize>a.scratch + <usize>worker * <usize>a.scratchStride;
}

function moments(a: Sheet, t: Tile, slot: usize, work: usize): void {
  const column = t.column << 3;
  tileMoments(
    <usize>a.x + t.at, t.rows, t.width, <usize>a.width << 2, work,
    partAddress(a, 0, slot, t.block) + column, partAddress(a, 1, slot, t.block) + column,
  );
}

function apply(a: Sheet, t: Tile, slot: usize): void {
  const width = <usize>a.width, table = <usize>a.table + ((slot * width + t.column) << 2),
    plane = <usize>a.tablePlane << 2;
  applyAt(a, t.at, t.rows, t.width, width << 2, table, plane);
  if (!t.last || a.restWidth == 0) return;
  const rest = (t.entry + 1) * entryBytes(a) - (<usize>a.restWidth << 2);
  applyAt(a, rest, 1, <usize>a.restWidth, 0, <usize>a.table + ((slot * width) << 2), plane);
}

@inline function applyAt(
  a: Sheet, at: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize,
): void {
  const x = <usize>a.x + at, y = <usize>a.y + at, op = <i32>a.activation;
  const together = a.together != 0;
  if (op) tileActivate(x, y, rows, width, stride, table, plane, together, op - 1, <f32>a.alpha);
  else tileApply(x, y, rows, width, stride, table, plane, together);
}

function sums(a: Sheet, t: Tile, slot: usize): void {
  if (a.activation != 0) {
    sumsThrough(a, t, slot);
    return;
  }
  const column = t.column << 3;
  tileSums(
    <usize>a.x + t.at, <usize>a.dy + t.at, t.rows, t.width, <usize>a.width << 2,
    <usize>a.table + ((slot * <usize>a.width + t.column) << 2),
    partAddress(a, 0, slot, t.block) + column, partAddress(a, 1, slot, t.block) + column,
  );
}

/** With an activation in between, of which the rest behind the rows goes through here too. */
function sumsThrough(a: Sheet, t: Tile, slot: usize): void {
  const column = t.column << 3, width = <usize>a.width, plane = <usize>a.tablePlane << 2;
  const table = <usize>a.table + ((slot * width) << 2), op = <i32>a.activation - 1, alpha = <f32>a.alpha;
  tileSumsThrough(
    <usize>a.x + t.at, <usize>a.dy + t.at, <usize>a.dz + t.at, t.rows, t.width, width << 2, table + (t.column << 2), plane,
    op, alpha, partAddress(a, 0, slot, t.block) + column, partAddress(a, 1, slot, t.block) + column,
  );
  if (!t.last || a.restWidth == 0) return;
  const rest = (t.entry + 1) * entryBytes(a) - (<usize>a.restWidth << 2);
  tileDz(
    <usize>a.x + rest, <usize>a.dy + rest, <usize>a.dz + rest, 1, <usize>a.restWidth, 0, table, plane, op, alpha,
  );
}

function grad(a: Sheet, t: Tile, slot: usize): void {
  const width = <usize>a.width, table = <usize>a.table + ((slot * width + t.column) << 2),
    plane = <usize>a.tablePlane << 2;
  tileGrad(<usize>a.x + t.at, <usize>a.dz + t.at, <usize>a.y + t.at, t.rows, t.width, width << 2, table, plane, a.together != 0);
  if (!t.last || a.restWidth == 0) return;
  const rest = (t.entry + 1) * entryBytes(a) - (<usize>a.restWidth << 2);
  tileGrad(
    <usize>a.x + rest, <usize>a.dz + rest, <usize>a.y + rest, 1, <usize>a.restWidth, 0,
    <usize>a.table + ((slot * width) << 2), plane, false,
  );
}

export function column_norm_tile_moments(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker));
  for (let unit = lo; unit < hi; unit++) {
    locate(a, <usize>unit, t);
    moments(a, t, t.entry, changetype<usize>(t) + 64);
  }
}

export function column_norm_tile_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker));
  for (let unit = lo; unit < hi; unit++) {
    locate(a, <usize>unit, t);
    sums(a, t, t.entry);
  }
}

/**
 * The pass after the sums takes the units the other way round: it starts on what the sums read last and the cache still
 * holds.
 */
export function column_norm_tile_apply(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker)), last = <i32>tileUnits(a) - 1;
  for (let unit = lo; unit < hi; unit++) {
    locate(a, <usize>(last - unit), t);
    apply(a, t, t.entry);
  }
}

export function column_norm_tile_dx(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker)), last = <i32>tileUnits(a) - 1;
  for (let unit = lo; unit < hi; unit++) {
    locate(a, <usize>(last - unit), t);
    grad(a, t, t.entry);
  }
}

/** Statistics and y of a batch entry that fits the cache: unit = batch entry. Parts and table belong to the thread. */
export function column_norm_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker)), slot = <usize>worker;
  const channels = <usize>a.channels, groups = channels / <usize>a.merge;
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, t);
    moments(a, t, slot, changetype<usize>(t) + 64);
    mergeGroups(a, unit, slot, 0, groups);
    writeConstants(a, unit, slot, 0, channels, false);
    apply(a, t, slot);
  }
}

/** The same for the gradient. */
export function column_norm_tiles_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker)), slot = <usize>worker;
  const channels = <usize>a.channels, groups = channels / <usize>a.merge;
  const shared = changetype<GradConstants>(changetype<usize>(t) + 64);
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, t);
    if (a.activation != 0) writeConstants(a, unit, slot, 0, channels, false);
    else writeCentres(a, unit, slot, 0, channels);
    sums(a, t, slot);
    mergeSums(a, unit, slot, 0, channels);
    if (a.y == 0) continue;
    writeGradConstants(a, unit, slot, 0, groups, shared);
    grad(a, t, slot);
  }
}
