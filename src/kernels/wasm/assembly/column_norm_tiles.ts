// Column normalization where the inner axis is short: SIMD lanes hold neighbouring columns.
import {
  GradConstants, affineGrad, mergeGroups, mergeSums, writeCentres, writeConstants, writeGradConstants,
} from "./lib_column_merge";
import { isPlain, pairConstants, pairSums } from "./lib_column_pairs";
import { GRAD_STEP, Sheet, entryBytes, partAddress, placeOf, tableOf } from "./lib_column_sheet";
import { tileMoments } from "./lib_column_tile_moments";
import { tileApply, tileGrad, tileSums } from "./lib_column_tiles";
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

/** Where what lies behind the rows of a batch entry begins, if it belongs to this tile; 0: it does not. */
@inline function restAt(a: Sheet, t: Tile): usize {
  return t.last && a.restWidth != 0 ? (t.entry + 1) * entryBytes(a) - (<usize>a.restWidth << 2) : 0;
}

function apply(a: Sheet, t: Tile, slot: usize): void {
  const step = <usize>a.tableStep, table = tableOf(a, slot), rest = restAt(a, t);
  applyAt(a, t.at, t.rows, t.width, <usize>a.width << 2, table + placeOf(t.column, step), step);
  if (rest) applyAt(a, rest, 1, <usize>a.restWidth, 0, table, step);
}

@inline function applyAt(
  a: Sheet, at: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize,
): void {
  const x = <usize>a.x + at, y = <usize>a.y + at, op = <i32>a.activation, together = a.together != 0;
  if (op) tileActivate(x, y, rows, width, stride, table, step, together, op - 1, <f32>a.alpha);
  else tileApply(x, y, rows, width, stride, table, step, together);
}

/** `centre` has room for a float32 of each column of the tile. */
function sums(a: Sheet, t: Tile, slot: usize, centre: usize): void {
  writeCentres(a, t.entry, t.column, t.width, centre);
  if (a.activation != 0) {
    sumsThrough(a, t, slot, centre);
    return;
  }
  const column = t.column << 3;
  tileSums(
    <usize>a.x + t.at, <usize>a.dy + t.at, t.rows, t.width, <usize>a.width << 2, centre,
    partAddress(a, 0, slot, t.block) + column, partAddress(a, 1, slot, t.block) + column, a.together != 0,
  );
}

/** With an activation in between, of which the rest behind the rows goes through here too. */
function sumsThrough(a: Sheet, t: Tile, slot: usize, centre: usize): void {
  const column = t.column << 3, width = <usize>a.width, step = <usize>a.tableStep, table = tableOf(a, slot);
  const op = <i32>a.activation - 1, alpha = <f32>a.alpha, rest = restAt(a, t);
  tileSumsThrough(
    <usize>a.x + t.at, <usize>a.dy + t.at, <usize>a.dz + t.at, t.rows, t.width, width << 2,
    table + placeOf(t.column, step), step, centre, op, alpha,
    partAddress(a, 0, slot, t.block) + column, partAddress(a, 1, slot, t.block) + column,
  );
  if (!rest) return;
  tileDz(<usize>a.x + rest, <usize>a.dy + rest, <usize>a.dz + rest, 1, <usize>a.restWidth, 0, table, step, op, alpha);
}

function grad(a: Sheet, t: Tile, slot: usize): void {
  const table = tableOf(a, slot), rest = restAt(a, t);
  const x = <usize>a.x, dy = <usize>a.dz, dx = <usize>a.y;
  tileGrad(
    x + t.at, dy + t.at, dx + t.at, t.rows, t.width, <usize>a.width << 2, table + placeOf(t.column, GRAD_STEP),
  );
  if (rest) tileGrad(x + rest, dy + rest, dx + rest, 1, <usize>a.restWidth, 0, table);
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
    sums(a, t, t.entry, changetype<usize>(t) + 64);
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
  const channels = <usize>a.channels, groups = channels / <usize>a.merge, plain = isPlain(a);
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, t);
    moments(a, t, slot, changetype<usize>(t) + 64);
    mergeGroups(a, unit, slot, 0, groups);
    writeConstants(a, unit, slot, plain ? pairConstants(a, unit, slot, 0, channels, false) : 0, channels, false);
    apply(a, t, slot);
  }
}

/** The same for the gradient. */
export function column_norm_tiles_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), t = changetype<Tile>(scratchOf(a, worker)), slot = <usize>worker;
  const channels = <usize>a.channels, groups = channels / <usize>a.merge, plain = isPlain(a), alone = a.batch == 1;
  const shared = changetype<GradConstants>(changetype<usize>(t) + 64);
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, t);
    if (a.activation != 0) writeConstants(a, unit, slot, 0, channels, false);
    sums(a, t, slot, changetype<usize>(t) + 64);
    const rest = plain ? pairSums(a, unit, slot, 0, channels) : 0; // plain: a group is a channel
    mergeSums(a, unit, slot, rest, channels);
    if (alone) affineGrad(a, rest, channels);
    if (a.y == 0) continue;
    writeGradConstants(a, unit, slot, rest, groups, shared);
    grad(a, t, slot);
  }
}
