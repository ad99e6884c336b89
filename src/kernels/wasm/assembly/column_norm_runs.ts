// Column normalization where the inner axis is long: a channel is `rows` runs of contiguous floats.
import { runActivate, runApply, runGrad, runSums, runSumsThrough, Sums } from "./lib_column_runs";
import {
  CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE, Sheet, entryBytes, loadOr, loadStat, partAddress, placeOf, tableOf,
} from "./lib_column_sheet";
import { GradConstants, groupConstants, lowPart } from "./lib_column_merge";
import { Moments, addRun } from "./lib_moments";

/**
 * Statistics and y of whole groups: unit = batch entry x group. A channel that fits the second-level cache is read from
 * memory once.
 */
export function column_norm_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args);
  const merge = <usize>a.merge, channels = <usize>a.channels, groups = channels / merge;
  const rows = <usize>a.rows, run = <usize>a.run, bytes = run << 2, stride = channels * bytes;
  const weight = <usize>a.weight, bias = <usize>a.bias, op = <i32>a.activation;
  const m = changetype<Moments>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    const at = (unit / groups) * entryBytes(a), first = (unit % groups) * merge;
    m.count = 0; m.mean = 0; m.m2 = 0;
    for (let c = first; c < first + merge; c++) {
      let p = <usize>a.x + at + c * bytes;
      for (let row: usize = 0; row < rows; row++, p += stride) addRun(m, p, run);
    }
    const mean = m.mean, variance = m.m2 / a.count, rstd = 1 / Math.sqrt(variance + a.eps);
    store<f64>(<usize>a.mean + (unit << 3), mean);
    store<f64>(<usize>a.variance + (unit << 3), variance);
    for (let c = first; c < first + merge; c++) {
      const scale = loadOr(weight, c, 1) * rstd, offset = loadOr(bias, c, 0) - lowPart(mean) * scale;
      let p = at + c * bytes;
      for (let row: usize = 0; row < rows; row++, p += stride) {
        if (op) {
          runActivate(<usize>a.x + p, <usize>a.y + p, run, <f32>mean, <f32>scale, <f32>offset, op - 1, <f32>a.alpha);
        } else {
          runApply(<usize>a.x + p, <usize>a.y + p, run, <f32>mean, <f32>scale, <f32>offset);
        }
      }
    }
  }
}

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
      const scale = loadOr(<usize>a.weight, s.channel, 1) / Math.sqrt(loadStat(<usize>a.variance, stat, singleStats) + a.eps);
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

/** Sums and dx of whole groups: unit = batch entry x group. */
export function column_norm_runs_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args);
  const merge = <usize>a.merge, channels = <usize>a.channels, groups = channels / merge;
  const rows = <usize>a.rows, run = <usize>a.run, bytes = run << 2, stride = channels * bytes;
  const weight = <usize>a.weight, op = <i32>a.activation, means = <usize>a.mean, variances = <usize>a.variance,
    singleStats = a.singleStats != 0;
  const plane = (<usize>a.batch * channels) << 3, share = 1 / a.count, perChannel = <f64>merge * share;
  const sums = changetype<Sums>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  const shared = changetype<GradConstants>(changetype<usize>(sums) + offsetof<Sums>());
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    const entry = unit / groups, first = (unit % groups) * merge, at = entry * entryBytes(a);
    const mean = loadStat(means, unit, singleStats),
      rstd = 1 / Math.sqrt(loadStat(variances, unit, singleStats) + a.eps);
    const out = <usize>a.sums + ((entry * channels) << 3);
    for (let c = first; c < first + merge; c++) {
      sums.dy = 0; sums.dyX = 0;
      let p = at + c * bytes;
      if (op) {
        const scale = loadOr(weight, c, 1) * rstd, offset = loadOr(<usize>a.bias, c, 0) - lowPart(mean) * scale;
        for (let row: usize = 0; row < rows; row++, p += stride) {
          runSumsThrough(
            <usize>a.x + p, <usize>a.dy + p, <usize>a.dz + p, run, <f32>mean, <f32>scale, <f32>offset, op - 1,
            <f32>a.alpha, sums,
          );
        }
      } else {
        for (let row: usize = 0; row < rows; row++, p += stride) {
          runSums(<usize>a.x + p, <usize>a.dy + p, run, <f32>mean, sums);
        }
      }
      store<f64>(out + (c << 3), sums.dy);
      store<f64>(out + (c << 3) + plane, sums.dyX - lowPart(mean) * sums.dy);
    }
    if (a.y == 0) continue;
    groupConstants(out, plane, weight, first, merge, mean, rstd, share, shared);
    for (let c = first; c < first + merge; c++) {
      const scale = loadOr(weight, c, 1) * rstd, centre = <f32>(load<f64>(out + (c << 3)) * perChannel);
      const offset = scale * <f64>centre - shared.shift;
      let p = at + c * bytes;
      for (let row: usize = 0; row < rows; row++, p += stride) {
        runGrad(
          <usize>a.x + p, <usize>a.dz + p, <usize>a.y + p, run, <f32>mean, <f32>scale, <f32>offset, <f32>shared.slope,
          centre,
        );
      }
    }
  }
}
