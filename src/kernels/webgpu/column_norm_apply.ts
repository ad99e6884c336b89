import type { Slot } from "../../memory/heap.js";
import type { ColumnView } from "../../norm/views.js";
import type { NormActivation, Stats } from "../kernel_set.js";
import { ACTIVATION, activationValue } from "./activation.js";
import { channelsOf, LANES, WALK, walkOf, walkParameters } from "./column_norm_walk.js";
import { run } from "./device.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";

/** Operands and text for what is known of a statistic and a channel. */
export const constantOperands = {
  weight: { access: "read", narrow: true, absent: "1.0" },
  bias: { access: "read", narrow: true },
  mean: { access: "read", narrow: true },
  variance: { access: "read", narrow: true },
} as const satisfies Program["operands"];

/** 1 / sqrt(v + eps); WGSL's own is two units in the last place off, and one step of Newton's makes that one. */
export const ROOT = `
fn root_of(v: f32) -> f32 {
  let r = inverseSqrt(v);
  return select(r, r + r * 0.5 * fma(-(v * r), r, 1.0), v > 0.0 && v < 3.0e38);
}
`;

/** `constants_of` needs WALK; without statistics the mean is 0. */
export const CONSTANTS = `${ROOT}
fn variance_of(statistic: u32) -> f32 { let v = variance_at(statistic); return $VARIANCE; }
fn mean_of(statistic: u32) -> vec2f { let v = mean_at(statistic); return $MEAN; }

struct Known { high: E, low: E, root: E, weight: E, bias: E }
fn known_of(w: Walker) -> Known {
  var k: Known;
  for (var i = 0u; i < OWN; i++) {
    let channel = column_of(w, i);
    let statistic = statistic_of(w, i);
    let mean = mean_of(statistic);
    k.high = put(k.high, i, mean.x);
    k.low = put(k.low, i, mean.y);
    k.root = put(k.root, i, root_of(variance_of(statistic) + P.eps));
    k.weight = put(k.weight, i, weight_at(channel));
    k.bias = put(k.bias, i, bias_at(channel));
  }
  if (RUNS) {
    k.high = E(part(k.high, 0u));
    k.low = E(part(k.low, 0u));
    k.root = E(part(k.root, 0u));
    k.weight = E(part(k.weight, 0u));
    k.bias = E(part(k.bias, 0u));
  }
  return k;
}
fn statistic_of(w: Walker, i: u32) -> u32 { return (w.entry * P.columns + column_of(w, i)) / P.merge; }
`;

export const knownParameters = { ...walkParameters, merge: "u32", eps: "f32", alpha: "f32" } as const;

/** The number that `name` stands for, read of a slot which is float32 or float64. */
export const numberOf = (slot: Slot | null, name: string): string =>
  slot?.dtype === "float64" ? `(${name}.x + ${name}.y)` : name;

/** How statistics are read. */
export const formatsOf = ({ mean, variance }: Stats): { MEAN: string; VARIANCE: string } => ({
  MEAN: mean.dtype === "float64" ? "v" : "vec2f(v, 0.0)",
  VARIANCE: numberOf(variance, "v"),
});

const apply: Program = {
  name: "column_norm",
  operands: { x: { access: "read" }, y: { access: "write" }, ...constantOperands },
  parameters: knownParameters,
  lanes: LANES,
  wide: true,
  code: `${WALK}${CONSTANTS}${MATH}${ACTIVATION}
fn run(group: u32, lane: u32) {
  var w = start(group, lane);
  let k = known_of(w);
  let scale = k.root * k.weight;
  for (var left = w.loads; left > 0u; left--) {
    let at = next(&w);
    let v = ((x_at(at) - k.high) - k.low) * scale + k.bias;
    y_set(at, $VALUE);
  }
}`,
};

export function columnApply(
  x: Slot,
  weight: Slot | null,
  bias: Slot | null,
  y: Slot,
  { mean, variance }: Stats,
  view: ColumnView,
  eps: number,
  activation: NormActivation | null,
): void {
  const operands = { x, y, weight, bias, mean, variance };
  const { groups, wide, parameters, constants } = walkOf(channelsOf(view), apply, operands);
  const VALUE = activation ? activationValue(activation.op, "P.alpha") : "v";
  run(apply, {
    ...{ operands, groups, wide },
    parameters: { ...parameters, merge: view.merge, eps, alpha: activation?.alpha ?? 0 },
    constants: { ...constants, ...formatsOf({ mean, variance }), VALUE },
  });
}
