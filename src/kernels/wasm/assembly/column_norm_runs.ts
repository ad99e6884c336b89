// Column normalization where the inner axis is long, channels cut into blocks: a channel is `rows` runs of contiguous
// floats. column_norm_groups.ts has whole groups.
import { Sums, runActivate, runApply, runGrad, runSums, runSumsThrough } from "./lib_column_runs";
import {
  CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE, Sheet, entryBytes, loadOr, loadStat, partAddress, placeOf, tableOf,
} from "./lib_column_sheet";
import { lowPart } from "./lib_column_merge";
import { Moments, addRun } from "./lib_moments";

/** Place of a unit of column_norm_run_moments and column_norm_run_sums: unit = batch entry x channel x block. */
@unmanaged class Strip { entry: usize; channel: usize; block: usize; at: usize; rows: usize; run: usize; }

@inline function locate(a: Sheet, unit: usize, s: Strip): void {
  const channels = <usize>a.channels, runBlocks = <usize>a.runBlocks, blocks = <usize>a.rowBlocks * runBlocks;
  s.block = unit % blocks;
  s.channel = unit / blocks % channels;
  s.entry = unit / blocks / channels;
  const row = (s.block / runBlocks) * <usize>a.blockRows, part = (s.block % runBlocks) * <usize>a.blockRun,
    run = <usize>a.run;
  s.rows = min(<usize>a.blockRows, <usize>a.rows - row);
  s.run = min(<usize>a.blockRun, run - part);
  s.at = s.entry * entryBytes(a) + (((row * channels + s.channel) * run + part) << 2);
}

/** Moments of a block of a channel, for few channels with a lot of data. */
export function column_norm_run_moments(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), stride = (<usize>a.channels * <usize>a.run) << 2;
  const m = changetype<Moments>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  const s = changetype<Strip>(changetype<usize>(m) + offsetof<Moments>());
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, s);
    m.count = 0; m.mean = 0; m.m2 = 0;
    let p = <usize>a.x + s.at;
    for (let row: usize = 0; row < s.rows; row++, p += stride) addRun(m, p, s.run);
    store<f64>(partAddress(a, 0, s.entry, s.block) + (s.channel << 3), m.mean);
    store<f64>(partAddress(a, 1, s.entry, s.block) + (s.channel << 3), m.m2);
  }
}

/** Sums of dy and dy * (x - meanHi) of a block of a channel. */
export function column_norm_run_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels, stride = (channels * <usize>a.run) << 2;
  const sums = changetype<Sums>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  const s = changetype<Strip>(changetype<usize>(sums) + offsetof<Sums>()), op = <i32>a.activation;
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, s);
    const stat = (s.entry * channels + s.channel) / <usize>a.merge, singleStats = a.singleStats != 0;
    const mean = loadStat(<usize>a.mean, stat, singleStats);
    sums.dy = 0; sums.dyX = 0;
    let p = s.at;
    if (op) {
      const variance = loadStat(<usize>a.variance, stat, singleStats);
      const scale = loadOr(<usize>a.weight, s.channel, 1) / Math.sqrt(variance + a.eps);
      const offset = loadOr(<usize>a.bias, s.channel, 0) - lowPart(mean) * scale;
      for (let row: usize = 0; row < s.rows; row++, p += stride) {
        runSumsThrough(
          <usize>a.x + p, <usize>a.dy + p, <usize>a.dz + p, s.run, <f32>mean, <f32>scale, <f32>offset, op - 1,
          <f32>a.alpha, sums,
        );
      }
    } else {
      for (let row: usize = 0; row < s.rows; row++, p += stride) {
        runSums(<usize>a.x + p, <usize>a.dy + p, s.run, <f32>mean, sums);
      }
    }
    store<f64>(partAddress(a, 0, s.entry, s.block) + (s.channel << 3), sums.dy);
    store<f64>(partAddress(a, 1, s.entry, s.block) + (s.channel << 3), sums.dyX);
  }
}

/**
 * Goes through the parts of runs in the order of memory: `at` is the byte offset into x, `table` that of its
 * batch entry.
 */
@unmanaged class Cursor {
  part: usize; channel: usize; row: usize; rows: usize; at: usize; table: usize; tableEntry: usize;
}

@inline function startAt(a: Sheet, unit: usize, k: Cursor): void {
  const parts = <usize>a.runBlocks, channels = <usize>a.channels, index = unit / parts;
  k.part = unit % parts * <usize>a.blockRun;
  k.channel = index % channels;
  k.rows = <usize>a.rows;
  k.row = index / channels % k.rows;
  k.tableEntry = <usize>a.tableEntry;
  k.at = (index * <usize>a.run + k.part) << 2;
  k.table = tableOf(a, index / channels / k.rows);
}

@inline function step(k: Cursor, n: usize, run: usize, channels: usize): void {
  k.at += n << 2;
  k.part += n;
  if (k.part < run) return;
  k.part = 0;
  k.channel++;
  if (k.channel < channels) return;
  k.channel = 0;
  k.row++;
  if (k.row < k.rows) return;
  k.row = 0;
  k.table += k.tableEntry;
}

/** y from the constants of each channel: unit = part of a run. */
export function column_norm_run_apply(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), run = <usize>a.run, channels = <usize>a.channels;
  const blockRun = <usize>a.blockRun, x = <usize>a.x, y = <usize>a.y, tableStep = <usize>a.tableStep;
  const op = <i32>a.activation, alpha = <f32>a.alpha;
  const k = changetype<Cursor>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  startAt(a, lo, k);
  for (let unit = lo; unit < hi; unit++) {
    const n = min(blockRun, run - k.part), t = k.table + placeOf(k.channel, tableStep);
    const centre = load<f32>(t, CENTRE), scale = load<f32>(t, SCALE),
      offset = load<f32>(t, OFFSET);
    if (op) runActivate(x + k.at, y + k.at, n, centre, scale, offset, op - 1, alpha);
    else runApply(x + k.at, y + k.at, n, centre, scale, offset);
    step(k, n, run, channels);
  }
}

/** dx from the constants of each channel: unit = part of a run. */
export function column_norm_run_dx(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), run = <usize>a.run, channels = <usize>a.channels, tableStep = <usize>a.tableStep;
  const blockRun = <usize>a.blockRun, x = <usize>a.x, dy = <usize>a.dz, dx = <usize>a.y;
  const k = changetype<Cursor>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  startAt(a, lo, k);
  for (let unit = lo; unit < hi; unit++) {
    const n = min(blockRun, run - k.part), t = k.table + placeOf(k.channel, tableStep);
    runGrad(
      x + k.at, dy + k.at, dx + k.at, n, load<f32>(t, CENTRE), load<f32>(t, SCALE),
      load<f32>(t, OFFSET), load<f32>(t, SLOPE), load<f32>(t, DY_CENTRE),
    );
    step(k, n, run, channels);
  }
}
