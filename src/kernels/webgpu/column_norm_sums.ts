import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { ColumnView } from "../../norm/views.js";
import type { NormActivationGrad, Stats } from "../kernel_set.js";
import { ACTIVATION, activationGradient } from "./activation.js";
import { CONSTANTS, constantOperands, formatsOf, knownParameters, numberOf, ROOT } from "./column_norm_apply.js";
import {
  channelsOf,
  JOIN,
  joinOf,
  joinParameters,
  LANES,
  placesIn,
  WALK,
  type Walk,
  walkOf,
} from "./column_norm_walk.js";
import { run } from "./device.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import { sumText } from "./wgsl_reduce.js";

/** `gradient_at` is dy through the activation, if there is one. */
export const GRADIENT = `
struct Pair { d: E, c: E, g: E }
/** x less the high part of its mean and less all of it, and the gradient there. */
fn pair_at(at: u32, k: Known) -> Pair {
  let d = x_at(at) - k.high;
  let c = d - k.low;
  let g = dy_at(at);
  if (!ACTIVATED) { return Pair(d, c, g); }
  let v = c * (k.root * k.weight) + k.bias;
  return Pair(d, c, $GRADIENT);
}
`;

/** Sums of the gradient, and of its products with x less the mean, over parts of each channel. */
const blocks: Program = {
  name: "column_sums",
  operands: {
    ...{ x: { access: "read" }, dy: { access: "read" }, ...constantOperands },
    parts: { access: "write", narrow: true },
  },
  parameters: { ...knownParameters, plane: "u32" },
  lanes: LANES,
  wide: true,
  code: `${WALK}${CONSTANTS}${MATH}${ACTIVATION}${GRADIENT}
fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let k = known_of(w);
  var sum = E(0.0);
  var products = E(0.0);
  var left = w.loads;
  for (; left >= 8u; left -= 8u) {
    let a = pair_at(next(&w), k); let b = pair_at(next(&w), k); let c = pair_at(next(&w), k); let d = pair_at(next(&w), k);
    let e = pair_at(next(&w), k); let f = pair_at(next(&w), k); let g = pair_at(next(&w), k); let h = pair_at(next(&w), k);
    sum += ((a.g + b.g) + (c.g + d.g)) + ((e.g + f.g) + (g.g + h.g));
    products += (a.g * a.d + b.g * b.d) + (c.g * c.d + d.g * d.d) + ((e.g * e.d + f.g * f.d) + (g.g * g.d + h.g * h.d));
  }
  for (; left > 0u; left--) {
    let p = pair_at(next(&w), k);
    sum += p.g;
    products += p.g * p.d;
  }
  let sums = over_lanes(sum, lane);
  // Rounding after the low part too would err by the same for many x, and sums of like gradients gather that.
  let all = over_lanes(products, lane) - k.low * sums;
  if (tells(w, lane)) {
    for (var i = 0u; i < OWN; i++) {
      parts_set(place_of(w, i), part(sums, i));
      parts_set(P.plane + place_of(w, i), part(all, i));
    }
  }
}`,
};

const JOIN_LANES = 64;
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
  parameters: { ...joinParameters, channels: "u32", merge: "u32", count: "f32", eps: "f32" },
  lanes: JOIN_LANES,
  code: `${JOIN}${ROOT}${sumText("sum", "vec2f", JOIN_LANES)}
fn run(group: u32, lane: u32) {
  let parts = P.blocks * P.places;
  var s = vec2f(0.0);
  for (var j = lane; j < parts; j += LANES) {
    let at = joined(group, j);
    s += vec2f(parts_at(at), parts_at(P.plane + at));
  }
  let all = sum(s, lane);
  if (lane > 0u) { return; }
  if (HAS_sums) {
    let plane = P.plane / parts;
    let v = all.x; sums_set(group, $SUM);
    { let v = all.y; sums_set(plane + group, $SUM); }
  }
  if (HAS_variance) {
    let v = variance_at(group / P.merge);
    let root = root_of($VARIANCE + P.eps);
    let weighed = weight_at(group % P.channels) / P.count;
    averages_set(2u * group, weighed * all.x);
    averages_set(2u * group + 1u, weighed * (all.y * root));
    dWeight_set(group, all.y * root);
  }
  dBias_set(group, all.x);
}`,
};

/** Gradients of weight and bias as sums over batch entries. */
const affine: Program = {
  name: "column_affine_grad",
  operands: {
    ...{ sums: { access: "read" }, variance: { access: "read" } },
    ...{ dWeight: { access: "write" }, dBias: { access: "write" } },
  },
  parameters: { batch: "u32", channels: "u32", merge: "u32", eps: "f32" },
  lanes: JOIN_LANES,
  code: `${ROOT}${sumText("sum", "vec2f", JOIN_LANES)}
fn run(channel: u32, lane: u32) {
  var s = vec2f(0.0);
  for (var b = lane; b < P.batch; b += LANES) {
    let at = b * P.channels + channel;
    let v = variance_at(at / P.merge);
    s += vec2f(sums_at(at), sums_at(P.batch * P.channels + at) * root_of($VARIANCE + P.eps));
  }
  let all = sum(s, lane);
  if (lane == 0u) {
    dBias_set(channel, all.x);
    dWeight_set(channel, all.y);
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
  /** [2, batch * channels]: of the gradient, and of its products with x less the mean. */
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
  const parts = new Storage(2 * plane, "float32", "webgpu");
  run(blocks, {
    ...{ operands: { ...known.operands, parts }, groups: walk.groups, wide: walk.wide },
    parameters: { ...walk.parameters, ...known.parameters, plane },
    constants: { ...walk.constants, ...known.constants },
  });
  const variance = averages || dWeight ? source.stats.variance : null;
  const { batch, channels, outer, inner, merge } = view;
  const count = outer * inner * merge;
  run(joining, {
    ...{ operands: { parts, weight, variance, sums, averages, dWeight, dBias }, groups: batch * channels },
    parameters: { ...joinOf(extent, walk), channels, merge, count, eps },
    constants: { SUM: sums?.dtype === "float64" ? "vec2f(v, 0.0)" : "v", VARIANCE: numberOf(variance, "v") },
  });
  parts.release();
}

export function affineGrad(sums: Slot, { variance }: Stats, view: ColumnView, eps: number, to: Sums): void {
  const { batch, channels, merge } = view;
  const { dWeight, dBias } = to;
  run(affine, {
    ...{ operands: { sums, variance, dWeight, dBias }, groups: channels },
    ...{ parameters: { batch, channels, merge, eps }, constants: { VARIANCE: numberOf(variance, "v") } },
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
