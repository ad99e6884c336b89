import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { ColumnView } from "../../norm/views.js";
import type { Stats } from "../kernel_set.js";
import {
  JOIN,
  JOIN_LANES,
  joinOf,
  joinParameters,
  LANES,
  OVER_LANES,
  placesIn,
  SUMS,
  statisticsOf,
  WALK,
  walkOf,
  walkParameters,
} from "./column_norm_walk.js";
import { run } from "./device.js";
import type { Program } from "./program.js";
import { EXACT, exactParameters, ones } from "./wgsl_exact.js";
import { sumText } from "./wgsl_reduce.js";

/**
 * All values of a statistic are shifted by its first one, which may be an outlier. The mean comes from a sum in two parts of the
 * values themselves, since what rounding takes from x less the shift may be the same for many x, and gradients multiply an error of
 * the mean by sums over a whole channel. Squares are those of values scaled down, so that
 * those of values up to 1e19 do not overflow.
 */
const SHIFTED = `
const SCALE = 0.0009765625;
fn write_statistic(i: u32, shift: f32, moved_high: f32, moved_low: f32, scaled_variance: f32) {
  let sum = plus(E(shift), E(moved_high));
  let mean = vec2f(vec4f(sum.high).x, vec4f(sum.low).x + moved_low);
  mean_set(i, $MEAN);
  // Not by max, which may lose NaN.
  let variance = vec2f(select(scaled_variance, 0.0, scaled_variance < 0.0) * (1.0 / SCALE) * (1.0 / SCALE), 0.0);
  variance_set(i, $VARIANCE);
}
`;

const statistics = {
  mean: { access: "write", narrow: true },
  variance: { access: "write", narrow: true },
} as const;

/** Chunks of values that a lane holds are summed about their own mean, and chunks joined by Chan's formula. */
const blocks: Program = {
  name: "column_moments",
  operands: { x: { access: "read" }, parts: { access: "write", narrow: true }, ...statistics },
  parameters: { ...walkParameters, ...exactParameters, plane: "u32" },
  lanes: LANES,
  wide: true,
  code: `${WALK}${EXACT}${OVER_LANES}${SHIFTED}
fn x_number(i: u32) -> f32 { return part(x_at(i / STEP), i % STEP); }
fn first_of(w: Walker, i: u32) -> f32 {
  return x_number((w.entry * P.outer * P.columns + column_of(w, i)) * P.length);
}
fn shift_of(w: Walker) -> E {
  if (RUNS) { return E(first_of(w, 0u)); }
  if (P.length == 1u) { return x_at(w.entry * P.outer * P.width + w.unit); }
  var v = E(0.0);
  for (var i = 0u; i < STEP; i++) { v = put(v, i, first_of(w, i)); }
  return v;
}

struct Moments { sum: E, squares: E, count: f32, whole: Sum }
/** Joins k values of this sum, with these squares of distances from their mean. */
fn join(m: ptr<function, Moments>, sum: E, squares: E, k: f32) {
  let n = (*m).count;
  let apart = sum / k - (*m).sum / max(n, 1.0);
  (*m).squares += squares + apart * apart * (n * k / (n + k));
  (*m).sum += sum;
  (*m).count = n + k;
}

fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let shift = shift_of(w);
  var m: Moments;
  var left = w.loads;
  for (; left >= 8u; left -= 8u) {
    let x0 = x_at(next(&w)); let x1 = x_at(next(&w)); let x2 = x_at(next(&w)); let x3 = x_at(next(&w));
    let x4 = x_at(next(&w)); let x5 = x_at(next(&w)); let x6 = x_at(next(&w)); let x7 = x_at(next(&w));
    let v0 = (x0 - shift) * SCALE; let v1 = (x1 - shift) * SCALE; let v2 = (x2 - shift) * SCALE;
    let v3 = (x3 - shift) * SCALE; let v4 = (x4 - shift) * SCALE; let v5 = (x5 - shift) * SCALE;
    let v6 = (x6 - shift) * SCALE; let v7 = (x7 - shift) * SCALE;
    let sum = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
    let c = sum * 0.125;
    let d0 = v0 - c; let d1 = v1 - c; let d2 = v2 - c; let d3 = v3 - c;
    let d4 = v4 - c; let d5 = v5 - c; let d6 = v6 - c; let d7 = v7 - c;
    join(&m, sum, ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + ((d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)), 8.0);
    add(&m.whole, x0); add(&m.whole, x1); add(&m.whole, x2); add(&m.whole, x3);
    add(&m.whole, x4); add(&m.whole, x5); add(&m.whole, x6); add(&m.whole, x7);
  }
  for (; left > 0u; left--) {
    let x = x_at(next(&w));
    join(&m, (x - shift) * SCALE, E(0.0), 1.0);
    add(&m.whole, x);
  }

  // Of equal numbers nothing is left, so that their mean is exact.
  let shifts = product(E(m.count), shift);
  let moved = plus(m.whole.high, -shifts.high);
  let own = plus(moved.high, moved.low + (m.whole.low - shifts.low));
  let all = sum_over_lanes(own, lane);
  let mean = quotient(all, w.values);
  let apart = m.sum / max(m.count, 1.0) - mean.high * SCALE;
  let squares = over_lanes(m.squares + apart * apart * m.count, lane);
  if (!tells(w, lane)) { return; }
  for (var i = 0u; i < OWN; i++) {
    let at = place_of(w, i);
    if (HAS_parts) {
      parts_set(at, part(all.high, i));
      parts_set(P.plane + at, part(all.low, i));
      parts_set(2u * P.plane + at, part(squares, i));
    } else {
      write_statistic(at, part(shift, i), part(mean.high, i), part(mean.low, i), part(squares, i) / w.values);
    }
  }
}`,
};

const joining: Program = {
  name: "column_moments_join",
  operands: { x: { access: "read" }, parts: { access: "read" }, ...statistics },
  parameters: {
    ...{ ...joinParameters, ...exactParameters },
    ...{ outer: "u32", length: "u32", block: "u32", size: "u32", count: "f32" },
  },
  lanes: JOIN_LANES,
  code: `${JOIN}${EXACT}${SUMS}${SHIFTED}${sumText("sum", "f32", JOIN_LANES)}
fn count_of(j: u32) -> f32 { return f32(min(P.block, P.size - j / P.places * P.block)); }
fn run(group: u32, lane: u32) {
  let parts = P.blocks * P.places;
  var own: Sum;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    add_sum(&own, Sum(parts_at(at), parts_at(P.plane + at)));
  }
  let mean = quotient(sum_of(own, lane), P.count);
  var s = 0.0;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    let n = count_of(j);
    let apart = (parts_at(at) / n - mean.high) * SCALE;
    s += (parts_at(2u * P.plane + at) + apart * apart * n) / P.count;
  }
  let variance = sum(s, lane);
  if (lane > 0u) { return; }
  let shift = x_at((group / P.columns * P.outer * P.columns + group % P.columns) * P.length);
  write_statistic(group, shift, mean.high, mean.low, variance);
}`,
};

const value = (slot: Slot, name: string): string => (slot.dtype === "float64" ? name : `${name}.x + ${name}.y`);

/** Writes mean and variance of each column of x; none of them is empty. */
export function columnMoments(x: Slot, { mean, variance }: Stats, view: ColumnView): void {
  const extent = statisticsOf(view);
  const stats = { mean, variance };
  const formats = { MEAN: value(mean, "mean"), VARIANCE: value(variance, "variance") };
  const walk = walkOf(extent, blocks, { x, ...stats });
  const places = placesIn(extent, walk);
  const whole = walk.blocks * walk.places === 1;
  const parts = whole ? null : new Storage(3 * places, "float32", "webgpu");
  const { groups, wide } = walk;
  // With partial results statistics come from the second shader alone.
  const [written, writes] = parts ? [{ parts }, { MEAN: "0.0", VARIANCE: "0.0" }] : [stats, formats];
  run(blocks, {
    operands: { x, ...written },
    parameters: { ...walk.parameters, ...ones, plane: places },
    ...{ groups, wide, constants: { ...walk.constants, ...writes } },
  });
  if (!parts) return;
  const { outer, length, batch, columns } = extent;
  const parameters = {
    ...{ ...joinOf(extent, walk), ...ones },
    ...{ outer, length, block: walk.valuesPerBlock, size: walk.valuesPerPlace, count: outer * length },
  };
  run(joining, {
    ...{ operands: { x, parts, ...stats }, parameters, groups: batch * columns, constants: formats },
  });
  parts.release();
}
