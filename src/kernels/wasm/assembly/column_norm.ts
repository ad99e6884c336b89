// Column normalization: what lies between the passes over the data. See lib_column_sheet.ts for the layout.
import {
  GradConstants, affineGrad, mergeGroups, mergeSums, writeConstants, writeGradConstants,
} from "./lib_column_merge";
import { isPlain, pairConstants, pairSums } from "./lib_column_pairs";
import { Sheet } from "./lib_column_sheet";

/** Groups a unit: pairs of channels are then the same for any number of threads. */
const UNIT: usize = 4;

/** Statistics from the moments of columns and blocks, and the constants of y: unit = batch entry x four groups. */
export function column_norm_merge(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, groups = <usize>a.channels / merge, plain = isPlain(a);
  const units = (groups + UNIT - 1) / UNIT;
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / units;
    next = min(<usize>hi, (entry + 1) * units);
    const from = unit % units * UNIT, to = min(groups, (next - entry * units) * UNIT);
    mergeGroups(a, entry, entry, from, to);
    if (a.y == 0) continue;
    const rest = plain ? pairConstants(a, entry, entry, from, to, false) : from * merge;
    writeConstants(a, entry, entry, rest, to * merge, false);
  }
}

/** Constants of y, or of dx with constant statistics: unit = batch entry x four channels. */
export function column_norm_constants(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels, plain = isPlain(a);
  const units = (channels + UNIT - 1) / UNIT, frozen = a.frozen != 0 && a.activation == 0;
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / units;
    next = min(<usize>hi, (entry + 1) * units);
    const from = unit % units * UNIT, to = min(channels, (next - entry * units) * UNIT);
    const rest = plain ? pairConstants(a, entry, entry, from, to, frozen) : from;
    writeConstants(a, entry, entry, rest, to, frozen);
  }
}

/**
 * Sums per channel from the sums of columns and blocks, and the constants of dx; of one batch entry dWeight and dBias
 * too. Unit = batch entry x four groups.
 */
export function column_norm_merge_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, groups = <usize>a.channels / merge;
  const plain = isPlain(a) && a.counts == 0, units = (groups + UNIT - 1) / UNIT;
  const shared = changetype<GradConstants>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / units;
    next = min(<usize>hi, (entry + 1) * units);
    const from = unit % units * UNIT, to = min(groups, (next - entry * units) * UNIT);
    const rest = plain ? pairSums(a, entry, entry, from, to) : from;
    mergeSums(a, entry, entry, rest * merge, to * merge);
    if (a.y != 0) writeGradConstants(a, entry, entry, rest, to, shared);
    if (a.batch == 1) affineGrad(a, rest * merge, to * merge);
  }
}

/** Constants of dx from sums and counts that are given: unit = batch entry x group. */
export function column_norm_grad_constants(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), groups = <usize>a.channels / <usize>a.merge;
  const shared = changetype<GradConstants>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / groups, from = unit % groups, to = min(groups, from + <usize>hi - unit);
    writeGradConstants(a, entry, entry, from, to, shared);
    next = unit + to - from;
  }
}

/** dWeight and dBias of several batch entries: unit = channel. */
export function column_norm_affine_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  affineGrad(changetype<Sheet>(args), lo, hi);
}
