// Column normalization: what lies between the passes over the data. See lib_column_sheet.ts for the layout.
import {
  GradConstants, affineGrad, mergeGroups, mergeSums, writeCentres, writeConstants, writeGradConstants,
} from "./lib_column_merge";
import { Sheet } from "./lib_column_sheet";

/** Statistics from the moments of columns and blocks: unit = batch entry x group. */
export function column_norm_merge(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), groups = <usize>a.channels / <usize>a.merge;
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / groups, from = unit % groups, to = min(groups, from + <usize>hi - unit);
    mergeGroups(a, entry, entry, from, to);
    next = unit + to - from;
  }
}

/** Constants of y, or of dx with constant statistics: unit = batch entry x channel. */
export function column_norm_constants(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels, frozen = a.frozen != 0 && a.activation == 0;
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / channels, from = unit % channels, to = min(channels, from + <usize>hi - unit);
    writeConstants(a, entry, entry, from, to, frozen);
    next = unit + to - from;
  }
}

/** Where the sums of the gradient centre x: unit = batch entry x channel. */
export function column_norm_centres(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), channels = <usize>a.channels;
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / channels, from = unit % channels, to = min(channels, from + <usize>hi - unit);
    writeCentres(a, entry, entry, from, to);
    next = unit + to - from;
  }
}

/** Sums per channel from the sums of columns and blocks, and the constants of dx: unit = batch entry x group. */
export function column_norm_merge_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Sheet>(args), merge = <usize>a.merge, groups = <usize>a.channels / merge;
  const shared = changetype<GradConstants>(<usize>a.scratch + <usize>worker * <usize>a.scratchStride);
  for (let unit = <usize>lo, next = unit; unit < <usize>hi; unit = next) {
    const entry = unit / groups, from = unit % groups, to = min(groups, from + <usize>hi - unit);
    mergeSums(a, entry, entry, from * merge, to * merge);
    if (a.y != 0) writeGradConstants(a, entry, entry, from, to, shared);
    next = unit + to - from;
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

/** dWeight and dBias: unit = channel. */
export function column_norm_affine_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  affineGrad(changetype<Sheet>(args), lo, hi);
}
