import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { ColumnView } from "../../norm/views.js";
import type { NormActivationGrad, Stats } from "../kernel_set.js";
import { ACTIVATION, activationGradient } from "./activation.js";
import { CONSTANTS, constantOperands, formatsOf, knownParameters, numberOf, ROOT } from "./column_norm_apply.js";
import {
  channelsOf,
  JOIN,
  JOIN_LANES,
  joinOf,
  joinParameters,
  LANES,
  OVER_LANES,
  placesIn,
  SUMS,
  WALK,
  type Walk,
  walkOf,
} from "./column_norm_walk.js";
import { run } from "./device.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import { EXACT, exactParameters, ones } from "./wgsl_exact.js";
import { sumText } from "./wgsl_reduce.js";

export const GRADIENT = `
struct Pair { x: E, c: E, g: E }
/** x, x less its mean, and dy through the activation, if there is one. */
fn pair_at(at: u32, k: Known) -> Pair {
  let x = x_at(at);
  let c = (x - k.high) - k.low;
  let g = dy_at(at);
  if (!ACTIVATED) { return Pair(x, c, g); }
  let v = c * (k.root * k.weight) + k.bias;
  return Pair(x, c, $GRADIENT);
}
`;

/**
 * Sums of the gradient, and of its products with x less the mean, over parts of each channel: in two parts, since gradients with a
 * mean of their own would gather what rounding takes from x less the mean, where it does so by the same for many x. Products are
 * therefore of what is exact: x less its mean where that is large, and else x, with the mean taken off the sum.
 */
const blocks: Program = {
  name: "column_sums",
  operands: {
    ...{ x: { access: "read" }, dy: { access: "read" }, ...constantOperands },
    parts: { access: "write", narrow: true },
  },
  parameters: { ...knownParameters, ...exactParameters, plane: "u32" },
  lanes: LANES,
  wide: true,
  code: `${WALK}${EXACT}${OVER_LANES}${CONSTANTS}${MATH}${ACTIVATION}${GRADIENT}
struct Sums { sum: Sum, products: Sum }
fn take(s: ptr<function, Sums>, g: E, d: E) {
  let p = g * d;
  add(&(*s).sum, g);
  add(&(*s).products, p);
  (*s).products.low += fma(g, d, -p);
}

fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let k = known_of(w);
  let shift = select(k.high, E(0.0), abs(k.high) * k.root < E(4.0));
  var s: Sums;
  var left = w.loads;
  for (; left >= 4u; left -= 4u) {
    let a = pair_at(next(&w), k); let b = pair_at(next(&w), k); let c = pair_at(next(&w), k); let d = pair_at(next(&w), k);
    take(&s, a.g, a.x - shift);
    take(&s, b.g, b.x - shift);
    take(&s, c.g, c.x - shift);
    take(&s, d.g, d.x - shift);
  }
  for (; left > 0u; left--) {
    let p = pair_at(next(&w), k);
    take(&s, p.g, p.x - shift);
  }
  let sum = sum_over_lanes(s.sum, lane);
  let products = sum_over_lanes(s.products, lane);
  let moved = times(plus(k.high - shift, k.low), sum);
  let all = plus(products.high, -moved.high);
  let low = all.low + (products.low - moved.low);
  if (tells(w, lane)) {
    for (var i = 0u; i < OWN; i++) {
      let at = place_of(w, i);
      parts_set(at, part(sum.high, i));
      parts_set(P.plane + at, part(sum.low, i));
      parts_set(2u * P.plane + at, part(all.high, i));
      parts_set(3u * P.plane + at, part(low, i));
    }
  }
}`,
};

/**
 * The sums of each channel of each batch entry. With one entry they are gradients of bias and weight; with a channel to each
 * statistic, the averages that its dx takes (`averages`: of weight dy, and of weight dy xhat).
 */
const joining: Program = {
  name: "column_sums_join",
  operands: {
    ...{ parts: { access: "read" }, weight: constantOperands.weight, variance: constantOperands.variance },
    ...{ sums: { access: "write" }, averages: { access: "write" } },
    ...{ dWeight: { access: "write" }, dBias: { access: "write" } },
  },
  parameters: { ...joinParameters, ...exactParameters, channels: "u32", merge: "u32", count: "f32", eps: "f32" },
  lanes: JOIN_LANES,
  code: `${JOIN}${ROOT}${EXACT}${SUMS}
fn run(group: u32, lane: u32) {
  let parts = P.blocks * P.places;
  var own: Sum;
  var own_products: Sum;
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    add_sum(&own, Sum(parts_at(at), parts_at(P.plane + at)));
    add_sum(&own_products, Sum(parts_at(2u * P.plane + at), parts_at(3u * P.plane + at)));
  }
  let all = sum_of(own, lane);
  let products = sum_of(own_products, lane);
  if (lane > 0u) { return; }
  if (HAS_sums) {
    let plane = P.plane / parts;
    { let s = all; sums_set(group, $SUM); }
    { let s = products; sums_set(plane + group, $SUM); }
  }
  let sum = rounded(all);
  if (HAS_variance) {
    let v = variance_at(group / P.merge);
    let xhats = rounded(products) * root_of($VARIANCE + P.eps);
    let weighed = weight_at(group % P.channels) / P.count;
    averages_set(2u * group, weighed * sum);
    averages_set(2u * group + 1u, weighed * xhats);
    dWeight_set(group, xhats);
  }
  dBias_set(group, sum);
}`,
};

/** Gradients of weight and bias as sums over batch entries. */
const affine: Program = {
  name: "column_affine_grad",
  operands: {
    ...{ sums: { access: "read" }, variance: { access: "read" } },
    ...{ dWeight: { access: "write" }, dBias: { access: "write" } },
  },
  parameters: { ...exactParameters, batch: "u32", channels: "u32", merge: "u32", eps: "f32" },
  lanes: JOIN_LANES,
  code: `${ROOT}${EXACT}${SUMS}
fn run(channel: u32, lane: u32) {
  var own: Sum;
  var own_xhats: Sum;
  for (var b = lane; b < P.batch; b += LANES) {
    let at = b * P.channels + channel;
    let v = variance_at(at / P.merge);
    let sum = sums_at(at);
    let products = sums_at(P.batch * P.channels + at);
    add_sum(&own, Sum(sum.x, sum.y));
    add_sum(&own_xhats, times(Sum(products.x, products.y), Sum(root_of($VARIANCE + P.eps), 0.0)));
  }
  let all = sum_of(own, lane);
  let xhats = sum_of(own_xhats, lane);
  if (lane == 0u) {
    dBias_set(channel, rounded(all));
    dWeight_set(channel, rounded(xhats));
  }
}`,
};

/** For each statistic, over its channels, what `joining` gives where it has one. */
const average: Program = {
  name: "column_averages",
  operands: {
    ...{ sums: { access: "read" }, variance: { access: "read" }, weight: constantOperands.weight },
    ...{ counts: { access: "read" }, averages: { access: "write" } },
  },
  parameters: { plane: "u32", channels: "u32", merge: "u32", count: "f32", eps: "f32" },
  lanes: JOIN_LANES,
  code: `${ROOT}${sumText("sum", "vec2f", JOIN_LANES)}
fn run(statistic: u32, lane: u32) {
  let v = variance_at(statistic);
  let root = root_of($VARIANCE + P.eps);
  var s = vec2f(0.0);
  for (var i = lane; i < P.merge; i += LANES) {
    let at = statistic * P.merge + i;
    let first = sums_at(at);
    let second = sums_at(P.plane + at);
    s += weight_at(at % P.channels) * vec2f($FIRST, $SECOND * root);
  }
  let all = sum(s, lane);
  let c = counts_at(statistic);
  let count = select(P.count, $COUNT, HAS_counts);
  if (lane == 0u) {
    averages_set(2u * statistic, all.x / count);
    averages_set(2u * statistic + 1u, all.y / count);
  }
}`,
};

/** Of what a gradient is taken, and with what. */
export interface Source {
  /** Null where nothing depends on it. */
  readonly x: Slot | null;
  readonly dy: Slot;
  readonly weight: Slot | null;
  readonly stats: Stats;
  readonly view: ColumnView;
  readonly eps: number;
  readonly activation: NormActivationGrad | null;
}

/** What GRADIENT and CONSTANTS ask for beside a walk. */
export function knownOf({ x, dy, weight, stats, view, eps, activation }: Source) {
  const { mean, variance } = stats;
  return {
    operands: { x, dy, weight, bias: activation?.bias ?? null, mean, variance },
    parameters: { merge: view.merge, eps, alpha: activation?.alpha ?? 0 },
    constants: {
      ...formatsOf(stats),
      ACTIVATED: activation !== null,
      GRADIENT: activation ? activationGradient(activation.op, "P.alpha") : "g",
    },
  };
}

/** What is made of the sums; null where it is not wanted. */
export interface Sums {
  /** float64 [2, batch * channels]: of the gradient, and of its products with x less the mean. */
  readonly sums?: Slot | null;
  readonly averages?: Slot | null;
  readonly dWeight?: Slot | null;
  readonly dBias?: Slot | null;
}

export function columnSums(source: Source, { sums, averages, dWeight, dBias }: Sums): void {
  const { view, weight, eps } = source;
  const extent = channelsOf(view);
  const known = knownOf(source);
  const walk: Walk = walkOf(extent, blocks, known.operands);
  const plane = placesIn(extent, walk);
  const parts = new Storage(4 * plane, "float32", "webgpu");
  run(blocks, {
    ...{ operands: { ...known.operands, parts }, groups: walk.groups, wide: walk.wide },
    parameters: { ...walk.parameters, ...known.parameters, ...ones, plane },
    constants: { ...walk.constants, ...known.constants },
  });
  const variance = averages || dWeight ? source.stats.variance : null;
  const { batch, channels, outer, inner, merge } = view;
  const count = outer * inner * merge;
  run(joining, {
    ...{ operands: { parts, weight, variance, sums, averages, dWeight, dBias }, groups: batch * channels },
    parameters: { ...joinOf(extent, walk), ...ones, channels, merge, count, eps },
    constants: {
      SUM: sums?.dtype === "float64" ? "vec2f(s.high, s.low)" : "rounded(s)",
      VARIANCE: numberOf(variance, "v"),
    },
  });
  parts.release();
}

export function affineGrad(sums: Slot, { variance }: Stats, view: ColumnView, eps: number, to: Sums): void {
  const { batch, channels, merge } = view;
  const { dWeight, dBias } = to;
  run(affine, {
    ...{ operands: { sums, variance, dWeight, dBias }, groups: channels },
    ...{ parameters: { ...ones, batch, channels, merge, eps }, constants: { VARIANCE: numberOf(variance, "v") } },
  });
}

/** `counts`: how many values each statistic was taken from, if not from those of x. */
export function averagesOf(
  sums: Slot,
  weight: Slot | null,
  { variance }: Stats,
  counts: Slot | null,
  averages: Slot,
  view: ColumnView,
  eps: number,
): void {
  const { batch, channels, outer, inner, merge } = view;
  const constants = {
    ...{ FIRST: numberOf(sums, "first"), SECOND: numberOf(sums, "second") },
    ...{ VARIANCE: numberOf(variance, "v"), COUNT: numberOf(counts, "c") },
  };
  run(average, {
    ...{ operands: { sums, variance, weight, counts, averages }, groups: (batch * channels) / merge, constants },
    parameters: { plane: batch * channels, channels, merge, count: outer * inner * merge, eps },
  });
}
