// Column normalization: what lies between the passes over the data. See lib_column_sheet.ts for the layout.
import {
  GradConstants, mergeGroup, mergeSums, writeConstants, writeFrozenConstants, writeGradConstants,
} from "./lib_column_merge";
import { Sheet, loadStat } from "./lib_column_sheet";

/** Statistics from the moments of columns and blocks: unit = batch entry x group. */
export function column_norm_merge(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), groups = <usize>a.channels / <usize>a.merge;
  for (let unit = <usize>lo; unit < <usize>hi; unit++) mergeGroup(a, unit / groups, unit / groups, unit % groups);
}

/** Constants of y: unit = batch entry x channel. */
export function column_norm_constants(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels;
  for (let unit = <usize>lo; unit < <usize>hi; unit++) writeConstants(a, unit / channels, unit / channels, unit % channels);
}

/** Constants of dx with constant statistics: unit = batch entry x channel. */
export function column_norm_frozen_constants(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels;
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    writeFrozenConstants(a, unit / channels, unit / channels, unit % channels);
  }
}

/** Sums per channel from the sums of columns and blocks, and the constants of dx: unit = batch entry x group. */
export function column_norm_merge_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, groups = <usize>a.channels / merge;
  const shared = changetype<GradConstants>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  for (let unit = <usize>lo; unit < <usize>hi; unit++) {
    const entry = unit / groups, group = unit % groups;
    for (let c = group * merge; c < (group + 1) * merge; c++) mergeSums(a, entry, entry, c);
    if (a.y != 0 && a.frozen == 0) writeGradConstants(a, entry, entry, group, shared);
  }
}

/** dWeight and dBias from the sums of each batch entry: unit = channel. */
export function column_norm_affine_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels, merge = <usize>a.merge, batch = <usize>a.batch;
  for (let c = <usize>lo; c < <usize>hi; c++) {
    let dBias: f64 = 0, dWeight: f64 = 0;
    for (let b: usize = 0; b < batch; b++) {
      const at = <usize>a.sums + ((b * channels + c) << 3);
      dBias += load<f64>(at);
      const variance = loadStat(a.variance, b * (channels / merge) + c / merge, a.singleStats);
      dWeight += load<f64>(at + ((batch * channels) << 3)) / Math.sqrt(variance + a.eps);
    }
    if (a.dBias != 0) store<f32>(<usize>a.dBias + (c << 2), <f32>dBias);
    if (a.dWeight != 0) store<f32>(<usize>a.dWeight + (c << 2), <f32>dWeight);
  }
}
