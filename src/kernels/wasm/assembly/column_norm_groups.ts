// Column normalization where the inner axis is long: whole groups, from statistics to result, while their data is in a
// cache. A unit is `unitGroups` neighbouring groups of one batch entry.
//
// A unit takes so many groups that its row is a long piece of memory: one channel of [32, 64, 56, 56] at a time is 32
// pieces of 12 KiB, read at half the speed of 100 KiB pieces, eight channels. In the last-level cache it matters as
// much: backward of [32, 64, 28, 28] takes 0.71 ns an element by one channel, 0.50 by eight. What the sums read last is
// taken first by the pass after them.
import {
  Deviations, Sums, runActivate, runApply, runDeviations, runGrad, runSums, runSumsThrough, sampleRuns,
} from "./lib_column_runs";
import { Sheet, entryBytes, loadOr, loadStat } from "./lib_column_sheet";
import { GradConstants, affineGrad, groupConstants, lowPart } from "./lib_column_merge";
import { Moments, addRun } from "./lib_moments";

/** Constants of a channel; the last two for the gradient only. */
@unmanaged class Constants { centre: f32; scale: f32; offset: f32; slope: f32; dyCentre: f32; }

/** Below this mean square, squares come near the subnormal range of float32 and lose digits. */
const TINY: f64 = 1e-30;

/** Where a unit lies. */
@unmanaged class Unit { entry: usize; g0: usize; g1: usize; at: usize; }

@inline function locate(a: Sheet, unit: usize, u: Unit): void {
  const merge = <usize>a.merge, groups = <usize>a.channels / merge, most = <usize>a.unitGroups;
  const units = (groups + most - 1) / most;
  u.entry = unit / units;
  u.g0 = unit % units * most;
  u.g1 = min(groups, u.g0 + most);
  u.at = u.entry * entryBytes(a) + ((u.g0 * merge * <usize>a.run) << 2);
}

/** Constants of y for the channels of the group whose first is c. */
@inline function yConstants(a: Sheet, c: usize, merge: usize, mean: f64, rstd: f64, out: usize): void {
  const weight = <usize>a.weight, bias = <usize>a.bias, low = lowPart(mean);
  for (const end = c + merge; c < end; c++, out += offsetof<Constants>()) {
    const k = changetype<Constants>(out), scale = loadOr(weight, c, 1) * rstd;
    k.centre = <f32>mean;
    k.scale = <f32>scale;
    k.offset = <f32>(loadOr(bias, c, 0) - low * scale);
  }
}

/**
 * From sums about a shift to moments, in the same place. Where the shift lies further than a standard deviation from
 * the mean, the squares left the range of float32 or came near its subnormals, or some input is no number, chunk by
 * chunk with shifts of their own (lib_moments.ts). A row of a group is `n` contiguous floats.
 */
@inline function settle(m: Moments, x: usize, rows: usize, stride: usize, n: usize, count: f64): void {
  const d = changetype<Deviations>(m), s1 = d.s1, s2 = d.s2, shift = d.shift;
  if (s1 * s1 * 2 <= s2 * count && s2 < Infinity && s2 > TINY * count) {
    m.count = count;
    m.mean = shift + s1 / count;
    m.m2 = s2 - s1 * s1 / count;
    return;
  }
  m.count = 0; m.mean = 0; m.m2 = 0;
  for (; rows > 0; rows--, x += stride) addRun(m, x, n);
}

/** Statistics and y. */
export function column_norm_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, channels = <usize>a.channels, groups = channels / merge;
  const rows = <usize>a.rows, run = <usize>a.run, bytes = run << 2, stride = channels * bytes;
  const op = <i32>a.activation, alpha = <f32>a.alpha, x = <usize>a.x, y = <usize>a.y;
  const u = changetype<Unit>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  const moments = changetype<usize>(u) + offsetof<Unit>(),
    constants = moments + <usize>a.unitGroups * offsetof<Moments>();
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, u);
    const g0 = u.g0, g1 = u.g1, at = u.at, used = (g1 - g0) * offsetof<Moments>(), end = moments + used;
    memory.fill(moments, 0, used);
    for (let m = moments, p = x + at; m < end; m += offsetof<Deviations>(), p += merge * bytes) {
      changetype<Deviations>(m).shift = <f64>sampleRuns(p, rows, stride, run);
    }
    for (let row: usize = 0, from = x + at; row < rows; row++, from += stride) {
      let p = from;
      for (let m = moments; m < end; m += offsetof<Deviations>()) {
        const d = changetype<Deviations>(m), shift = <f32>d.shift;
        for (let c: usize = 0; c < merge; c++, p += bytes) runDeviations(p, run, shift, d);
      }
    }
    let k = constants;
    for (let g = g0; g < g1; g++, k += merge * offsetof<Constants>()) {
      const place = (g - g0) * offsetof<Moments>(), m = changetype<Moments>(moments + place);
      settle(m, x + at + (g - g0) * merge * bytes, rows, stride, merge * run, a.count);
      const stat = (u.entry * groups + g) << 3;
      const mean = m.mean, variance = m.m2 / a.count;
      store<f64>(<usize>a.mean + stat, mean);
      store<f64>(<usize>a.variance + stat, variance);
      yConstants(a, g * merge, merge, mean, 1 / Math.sqrt(variance + a.eps), k);
    }
    for (let row = rows; row > 0; row--) {
      let p = at + (row - 1) * stride;
      for (let q = constants; q < k; q += offsetof<Constants>(), p += bytes) {
        const o = changetype<Constants>(q);
        if (op) runActivate(x + p, y + p, run, o.centre, o.scale, o.offset, op - 1, alpha);
        else runApply(x + p, y + p, run, o.centre, o.scale, o.offset);
      }
    }
  }
}

/** Sums and dx. */
export function column_norm_runs_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, channels = <usize>a.channels, groups = channels / merge;
  const rows = <usize>a.rows, run = <usize>a.run, bytes = run << 2, stride = channels * bytes;
  const op = <i32>a.activation, alpha = <f32>a.alpha;
  const x = <usize>a.x, dy = <usize>a.dy, dz = <usize>a.dz, dx = <usize>a.y;
  const means = <usize>a.mean, variances = <usize>a.variance, single = a.singleStats != 0, weight = <usize>a.weight;
  const plane = (<usize>a.batch * channels) << 3, share = 1 / a.count, perChannel = <f64>merge * share;
  const u = changetype<Unit>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  const shared = changetype<GradConstants>(changetype<usize>(u) + offsetof<Unit>());
  const sums = changetype<usize>(shared) + offsetof<GradConstants>();
  const constants = sums + <usize>a.unitGroups * merge * offsetof<Sums>();
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    locate(a, unit, u);
    const g0 = u.g0, g1 = u.g1, at = u.at, first = u.entry * groups, used = (g1 - g0) * merge;
    const end = constants + used * offsetof<Constants>(), toSums = offsetof<Sums>();
    memory.fill(sums, 0, used * toSums);
    for (let g = g0, k = constants; g < g1; g++, k += merge * offsetof<Constants>()) {
      const rstd = 1 / Math.sqrt(loadStat(variances, first + g, single) + a.eps);
      yConstants(a, g * merge, merge, loadStat(means, first + g, single), rstd, k);
    }
    for (let row: usize = 0, from = at; row < rows; row++, from += stride) {
      let p = from, s = sums;
      for (let q = constants; q < end; q += offsetof<Constants>(), p += bytes, s += toSums) {
        const o = changetype<Constants>(q), sum = changetype<Sums>(s);
        if (op) {
          runSumsThrough(x + p, dy + p, dz + p, run, o.centre, o.scale, o.offset, op - 1, alpha, sum);
        } else {
          runSums(x + p, dy + p, run, o.centre, sum);
        }
      }
    }
    const out = <usize>a.sums + ((u.entry * channels) << 3);
    for (let g = g0, s = sums, k = constants; g < g1; g++) {
      const mean = loadStat(means, first + g, single), low = lowPart(mean), c0 = g * merge;
      for (let c = c0; c < c0 + merge; c++, s += toSums) {
        const sum = changetype<Sums>(s);
        store<f64>(out + (c << 3), sum.dy);
        store<f64>(out + (c << 3) + plane, sum.dyX - low * sum.dy);
      }
      if (dx == 0) continue;
      const rstd = 1 / Math.sqrt(loadStat(variances, first + g, single) + a.eps);
      groupConstants(out, plane, weight, c0, merge, mean, rstd, share, shared);
      for (let c = c0; c < c0 + merge; c++, k += offsetof<Constants>()) {
        const o = changetype<Constants>(k), scale = loadOr(weight, c, 1) * rstd;
        const centre = <f32>(load<f64>(out + (c << 3)) * perChannel);
        o.offset = <f32>(scale * <f64>centre - shared.shift);
        o.slope = <f32>shared.slope;
        o.dyCentre = centre;
      }
    }
    if (a.batch == 1) affineGrad(a, g0 * merge, g1 * merge);
    if (dx == 0) continue;
    for (let row = rows; row > 0; row--) {
      let p = at + (row - 1) * stride;
      for (let q = constants; q < end; q += offsetof<Constants>(), p += bytes) {
        const o = changetype<Constants>(q);
        runGrad(x + p, dz + p, dx + p, run, o.centre, o.scale, o.offset, o.slope, o.dyCentre);
      }
    }
  }
}
