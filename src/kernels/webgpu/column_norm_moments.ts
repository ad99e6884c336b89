import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { ColumnView } from "../../norm/views.js";
import type { Stats } from "../kernel_set.js";
import {
  JOIN,
  joinOf,
  joinParameters,
  LANES,
  placesIn,
  statisticsOf,
  WALK,
  walkOf,
  walkParameters,
} from "./column_norm_walk.js";
import { run } from "./device.js";
import type { Program } from "./program.js";
import { sumText } from "./wgsl_reduce.js";

/**
 * All values of a statistic are shifted by its first one, which may be an outlier: what the shift then costs in accuracy is in
 * proportion to the largest output. The mean of what was shifted is a centre of 12 bits, whose products with counts are exact,
 * and a rest, summed apart: gradients multiply an error of the mean by sums over a whole channel. Squares are those of values
 * scaled down, so that those of values up to 1e19 do not overflow.
 */
const SHIFTED = `
const SCALE = 0.0009765625;
fn coarse(v: E) -> E { return bitcast<E>(bitcast<U>(v) & U(0xfffff000u)); }
/** Numbers that no compiler knows to be a sum, so that it does not simplify what is taken from them. */
fn opaque(v: E) -> E { return bitcast<E>(bitcast<U>(v) ^ U(P.nothing)); }
/** What rounding took from now = a + b. */
fn lost_of(now: E, a: E, b: E) -> E {
  let added = opaque(now - a);
  return (a - opaque(now - added)) + (b - added);
}
fn write_statistic(i: u32, high: f32, low: f32, scaled_variance: f32) {
  let mean = vec2f(high, low);
  mean_set(i, $MEAN);
  let variance = vec2f(scaled_variance * (1.0 / SCALE) * (1.0 / SCALE), 0.0);
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
  parameters: { ...walkParameters, plane: "u32", nothing: "u32" },
  lanes: LANES,
  wide: true,
  code: `${WALK}${SHIFTED}
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

struct Moments { sum: E, lost: E, squares: E, count: f32 }
/** Joins k values of this sum, with these squares of distances from their mean. */
fn join(m: ptr<function, Moments>, sum: E, squares: E, k: f32) {
  let n = (*m).count;
  let apart = sum / k - (*m).sum / max(n, 1.0);
  (*m).squares += squares + apart * apart * (n * k / (n + k));
  let old = (*m).sum;
  (*m).sum = opaque(old + sum);
  (*m).lost += lost_of((*m).sum, old, sum);
  (*m).count = n + k;
}

fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let shift = shift_of(w);
  var m: Moments;
  var left = w.loads;
  for (; left >= 8u; left -= 8u) {
    let v0 = (x_at(next(&w)) - shift) * SCALE;
    let v1 = (x_at(next(&w)) - shift) * SCALE;
    let v2 = (x_at(next(&w)) - shift) * SCALE;
    let v3 = (x_at(next(&w)) - shift) * SCALE;
    let v4 = (x_at(next(&w)) - shift) * SCALE;
    let v5 = (x_at(next(&w)) - shift) * SCALE;
    let v6 = (x_at(next(&w)) - shift) * SCALE;
    let v7 = (x_at(next(&w)) - shift) * SCALE;
    let sum = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
    let c = sum * 0.125;
    let d0 = v0 - c; let d1 = v1 - c; let d2 = v2 - c; let d3 = v3 - c;
    let d4 = v4 - c; let d5 = v5 - c; let d6 = v6 - c; let d7 = v7 - c;
    join(&m, sum, ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + ((d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)), 8.0);
  }
  for (; left > 0u; left--) { join(&m, (x_at(next(&w)) - shift) * SCALE, E(0.0), 1.0); }

  let center = coarse(over_lanes(m.sum, lane) / w.values);
  let rest = (m.sum - center * m.count) + m.lost;
  let all = over_lanes(rest, lane);
  let apart = rest / max(m.count, 1.0) - all / w.values;
  let squares = over_lanes(m.squares + apart * apart * m.count, lane);
  if (!tells(w, lane)) { return; }
  let moved = center * (1.0 / SCALE);
  let high = opaque(shift + moved);
  let low = lost_of(high, shift, moved) + all / w.values * (1.0 / SCALE);
  for (var i = 0u; i < OWN; i++) {
    let at = place_of(w, i);
    if (HAS_parts) {
      parts_set(at, part(center, i));
      parts_set(P.plane + at, part(all, i));
      parts_set(2u * P.plane + at, part(squares, i));
    } else {
      write_statistic(at, part(high, i), part(low, i), part(squares, i) / w.values);
    }
  }
}`,
};

const JOIN_LANES = 64;
const joining: Program = {
  name: "column_moments_join",
  operands: { x: { access: "read" }, parts: { access: "read" }, ...statistics },
  parameters: {
    ...joinParameters,
    ...{ outer: "u32", length: "u32", block: "u32", size: "u32", count: "f32", nothing: "u32" },
  },
  lanes: JOIN_LANES,
  code: `${JOIN}${SHIFTED}${sumText("sum", "f32", JOIN_LANES)}
fn count_of(j: u32) -> f32 { return f32(min(P.block, P.size - j / P.places * P.block)); }
fn run(group: u32, lane: u32) {
  let parts = P.blocks * P.places;
  var s = 0.0;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    s += (parts_at(at) * count_of(j) + parts_at(P.plane + at)) / P.count;
  }
  let center = coarse(sum(s, lane));
  s = 0.0;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    s += (parts_at(at) - center) * count_of(j) + parts_at(P.plane + at);
  }
  let rest = sum(s, lane) / P.count;
  s = 0.0;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    let n = count_of(j);
    let apart = (parts_at(at) - center) + (parts_at(P.plane + at) / n - rest);
    s += (parts_at(2u * P.plane + at) + apart * apart * n) / P.count;
  }
  let variance = sum(s, lane);
  if (lane > 0u) { return; }
  let shift = x_at((group / P.columns * P.outer * P.columns + group % P.columns) * P.length);
  let moved = center * (1.0 / SCALE);
  let high = opaque(shift + moved);
  write_statistic(group, high, lost_of(high, shift, moved) + rest * (1.0 / SCALE), variance);
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
    parameters: { ...walk.parameters, plane: places, nothing: 0 },
    ...{ groups, wide, constants: { ...walk.constants, ...writes } },
  });
  if (!parts) return;
  const { outer, length, batch, columns } = extent;
  const parameters = {
    ...joinOf(extent, walk),
    ...{ outer, length, block: walk.valuesPerBlock, size: walk.valuesPerPlace, count: outer * length, nothing: 0 },
  };
  run(joining, {
    ...{ operands: { x, parts, ...stats }, parameters, groups: batch * columns, constants: formats },
  });
  parts.release();
}
