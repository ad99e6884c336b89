import type { Slot } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import type { KernelSet } from "../kernel_set.js";
import { columnApply, numberOf } from "./column_norm_apply.js";
import { columnDx, columnGrad } from "./column_norm_grad.js";
import { columnMoments } from "./column_norm_moments.js";
import { columnSums } from "./column_norm_sums.js";
import { run } from "./device.js";
import { elementwise, groupsFor, only } from "./elementwise.js";
import type { Program } from "./program.js";

type Kernels = Pick<
  KernelSet,
  "columnNorm" | "columnNormEval" | "columnNormGrad" | "columnMoments" | "columnSums" | "columnDx" | "updateRunning"
>;

const FLOATS = ["float32", "float64"];

const sizeOf = ({ batch, outer, channels, inner }: ColumnView): number => batch * outer * channels * inner;

const zero = (...slots: (Slot | null)[]): void => {
  for (const slot of slots) if (slot) elementwise.fill(slot, 0);
};

const running: Program = {
  name: "update_running",
  operands: { running: { access: "write" }, batch: { access: "read" } },
  parameters: { length: "u32", repeat: "u32", keep: "f32", share: "f32" },
  lanes: 256,
  code: `
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i >= P.length) { return; }
  // Groups differ by little, so that sums of what sets them apart from the first lose nothing.
  let base = batch_at(i);
  var rest = 0.0;
  for (var r = 1u; r < P.repeat; r++) {
    let d = batch_at(r * P.length + i) - base;
    rest += $REST;
  }
  let average = $BASE + rest / f32(P.repeat);
  let old = running_at(i);
  let v = P.keep * $OLD + P.share * average;
  running_set(i, $NEW);
}`,
};

export const columnNorm: Kernels = {
  columnNorm(x, weight, bias, y, stats, view, eps, activation = null) {
    only("columnNorm", ["float32"], x, weight, bias, y);
    columnNorm.columnMoments(x, stats, view);
    columnNorm.columnNormEval(x, weight, bias, y, stats, view, eps, activation);
  },

  columnNormEval(x, weight, bias, y, stats, view, eps, activation = null) {
    only("columnNormEval", ["float32"], x, weight, bias, y);
    only("columnNormEval", FLOATS, stats.mean, stats.variance);
    if (sizeOf(view) > 0) columnApply(x, weight, bias, y, stats, view, eps, activation);
  },

  columnNormGrad(x, dy, weight, stats, out, view, eps, frozen, activation = null) {
    only("columnNormGrad", ["float32"], x, dy, weight, activation?.bias ?? null, out.dx, out.dWeight, out.dBias);
    only("columnNormGrad", FLOATS, stats.mean, stats.variance);
    if (sizeOf(view) === 0) return zero(out.dWeight, out.dBias);
    columnGrad({ x, dy, weight, stats, view, eps, activation }, out, frozen);
  },

  columnMoments(x, stats, view) {
    only("columnMoments", ["float32"], x);
    only("columnMoments", FLOATS, stats.mean, stats.variance);
    if (sizeOf(view) > 0) return columnMoments(x, stats, view);
    elementwise.fill(stats.mean, Number.NaN);
    elementwise.fill(stats.variance, Number.NaN);
  },

  columnSums(x, dy, stats, sums, view) {
    only("columnSums", ["float32"], x, dy);
    only("columnSums", FLOATS, stats.mean, stats.variance, sums);
    if (sizeOf(view) === 0) return zero(sums);
    columnSums({ x, dy, weight: null, stats, view, eps: 0, activation: null }, { sums });
  },

  columnDx(x, dy, weight, stats, sums, counts, dx, view, eps) {
    only("columnDx", ["float32"], x, dy, weight, dx);
    only("columnDx", FLOATS, stats.mean, stats.variance, sums, counts);
    if (sizeOf(view) > 0) columnDx({ x, dy, weight, stats, view, eps, activation: null }, sums, counts, dx);
  },

  updateRunning(to, batch, repeat, weight, scale) {
    only("updateRunning", FLOATS, to, batch);
    const constants = {
      ...{ BASE: numberOf(batch, "base"), REST: numberOf(batch, "d"), OLD: numberOf(to, "old") },
      NEW: to.dtype === "float64" ? "vec2f(v, 0.0)" : "v",
    };
    const parameters = { length: to.length, repeat, keep: 1 - weight, share: weight * scale };
    run(running, { operands: { running: to, batch }, parameters, groups: groupsFor(to.length), constants });
  },
};
