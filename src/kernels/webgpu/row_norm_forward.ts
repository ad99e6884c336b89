import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { RowView } from "../../norm/views.js";
import type { ActivationOp, NormActivation, RowStats } from "../kernel_set.js";
import { ACTIVATION, activationValue } from "./activation.js";
import { run } from "./device.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import {
  affineOperands,
  affineText,
  byFours,
  each,
  groupsOf,
  inputs,
  LANES,
  load,
  PAIRS_IN,
  PAIRS_OUT,
  Programs,
  type Runs,
  rowParameters,
  rowText,
  runsOf,
  spread,
  WRITE,
} from "./row_norm_text.js";
import { sumText } from "./wgsl_reduce.js";

/** Elements, each a number or four, that a lane keeps at most; more would not fit into its registers. */
const MOST_KEPT = 32;
/** Of the longer rows, parts of this many are taken one by one; of few rows those beyond so many too. */
const PART_KEPT = 8;
const FEW_ROWS = 64;

interface Layout {
  readonly wide: boolean;
  readonly runs: Runs;
  readonly op: ActivationOp | null;
}
interface Kind extends Layout {
  readonly width: number;
  readonly kept: number;
  readonly centred: boolean;
  readonly added: boolean;
}

const operandsOf = (runs: Runs): Program["operands"] => ({
  ...inputs("x", "residual"),
  ...affineOperands(runs),
  sum: WRITE,
  y: WRITE,
  mean: PAIRS_OUT,
  variance: PAIRS_OUT,
});

const endText = ({ wide, runs, op }: Layout): string => `
${op ? MATH + ACTIVATION : ""}
${rowText(wide)}
${affineText(wide, runs)}
fn ended(v: E) -> E { return ${op ? activationValue(op, "P.alpha") : "v"}; }
fn normal(c: E, rho: f32, r: u32, i: u32) -> E { return ended(c * rho * weight_of(r, i) + bias_of(r, i)); }`;

/**
 * Statistics of rows, or of parts of rows, which a run of lanes keeps in registers; and y, where it is asked for. The mean
 * is taken about the first element, so that one of equal numbers is exact, and again about itself: high + low. Squares are
 * divided by the count before they are added up, which none of them overflows by.
 */
const rows = new Programs<Kind>((kind) => {
  const { width, kept, centred, added, wide } = kind;
  const first = wide ? ".x" : "";
  const high = `
  let origin = (x_at(first)${added ? " + residual_at(first)" : ""})${first};
  var away = E(0.0);
  ${each(kept, width, (k) => `away += v${k} - origin;`)}
  let high = origin + sum(total(away), lane) * inverse;
  var rest = E(0.0);
  var squares = E(0.0);
  ${each(kept, width, (k) => `let c = v${k} - high; rest += c; squares += c * (c * inverse);`)}
  let both = sums(vec2f(total(rest), total(squares)), lane);
  let low = both.x * inverse;
  let spread = both.y - low * low;
  // Not by max, which may lose NaN.
  let variance = select(spread, 0.0, spread < 0.0);`;
  const plain = `
  var squares = E(0.0);
  ${each(kept, width, (k) => `squares += v${k} * (v${k} * inverse);`)}
  let variance = sum(total(squares), lane);`;
  return {
    name: "row_norm",
    operands: operandsOf(kind.runs),
    parameters: { ...rowParameters, rows: "u32", parts: "u32", part: "u32", last_inverse: "f32" },
    lanes: LANES,
    wide,
    code: `${endText(kind)}
${sumText("sum", "f32", LANES, width)}
${centred ? sumText("sums", "vec2f", LANES, width) : ""}
fn run(group: u32, lane: u32) {
  let unit = group * ${LANES / width}u + lane / ${width}u;
  let l = lane % ${width}u;
  let r = unit / P.parts;
  let here = unit % P.parts * P.part;
  let first = r * P.steps + here;
  let count = select(0u, min(P.part, P.steps - here), r < P.rows);
  let last = max(count, 1u) - 1u;
  let inverse = select(P.inverse, P.last_inverse, unit % P.parts == P.parts - 1u);
  ${load(kept, width, (k, at) => `let v${k} = x_at(${at})${added ? ` + residual_at(${at})` : ""};`)}
  ${centred ? high : plain}
  if (l == 0u && r < P.rows) {
    ${centred ? "mean_set(unit, vec2f(high, low));" : ""}
    variance_set(unit, vec2f(variance, 0.0));
  }
  ${added ? each(kept, width, (k, i) => `sum_set(first + ${i}, v${k});`) : ""}
  if (HAS_y) {
    let rho = rho_of(vec2f(variance, 0.0));
    ${each(kept, width, (k, i) => {
      const c = centred ? `(v${k} - high) - low` : `v${k}`;
      return `y_set(first + ${i}, normal(${c}, rho, r, here + ${i}));`;
    })}
  }
}`,
  };
});

/** Statistics of rows from those of their parts. */
const merge = new Programs<{ centred: boolean }>(({ centred }) => ({
  name: "row_norm_merge",
  operands: {
    ...{ means: PAIRS_IN, variances: PAIRS_IN },
    ...{ mean: PAIRS_OUT, variance: PAIRS_OUT },
  },
  parameters: { parts: "u32", part: "u32", size: "u32", inverse: "f32" },
  lanes: LANES,
  code: `${sumText("sum", "f32", LANES)}
${sumText("sums", "vec2f", LANES)}
fn share(p: u32) -> f32 { return f32(min(P.part, P.size - p * P.part)) * P.inverse; }
fn run(group: u32, lane: u32) {
  let at = group * P.parts;
  ${
    centred
      ? `
  let origin = means_at(at).x;
  var away = 0.0;
  for (var p = lane; p < P.parts; p += LANES) {
    let m = means_at(at + p);
    away += share(p) * ((m.x - origin) + m.y);
  }
  let high = origin + sum(away, lane);
  var mine = vec2f(0.0);
  for (var p = lane; p < P.parts; p += LANES) {
    let m = means_at(at + p);
    let c = (m.x - high) + m.y;
    let s = share(p) * c;
    mine += vec2f(s, share(p) * variances_at(at + p).x + s * c);
  }
  let both = sums(mine, lane);
  let spread = both.y - both.x * both.x;
  if (lane == 0u) {
    mean_set(group, vec2f(high, both.x));
    variance_set(group, vec2f(select(spread, 0.0, spread < 0.0), 0.0));
  }`
      : `
  var mine = 0.0;
  for (var p = lane; p < P.parts; p += LANES) { mine += share(p) * variances_at(at + p).x; }
  let all = sum(mine, lane);
  if (lane == 0u) { variance_set(group, vec2f(all, 0.0)); }`
  }
}`,
}));

/** y from statistics, element by element. */
const apply = new Programs<Layout & { centred: boolean }>((kind) => ({
  name: "row_norm_apply",
  operands: {
    ...inputs("x"),
    ...affineOperands(kind.runs),
    y: WRITE,
    mean: PAIRS_IN,
    variance: PAIRS_IN,
  },
  parameters: { ...rowParameters, rows: "u32" },
  lanes: LANES,
  wide: kind.wide,
  code: `${endText(kind)}
fn run(group: u32, lane: u32) {
  let at = group * LANES + lane;
  if (at >= P.rows * P.steps) { return; }
  let r = at / P.steps;
  ${kind.centred ? "let m = mean_at(r); let c = (x_at(at) - m.x) - m.y;" : "let c = x_at(at);"}
  y_set(at, normal(c, rho_of(variance_at(r)), r, at % P.steps));
}`,
}));

export interface Forward {
  readonly x: Slot;
  readonly weight: Slot | null;
  readonly bias: Slot | null;
  readonly y: Slot;
  readonly stats: RowStats;
  readonly view: RowView;
  readonly eps: number;
  readonly activation?: NormActivation | null;
  readonly add?: { readonly residual: Slot; readonly sum: Slot };
}

export function forward({ x, weight, bias, y, stats, view, eps, activation, add }: Forward): void {
  const { rows: count, size, inner, groups: sets } = view;
  const runs = weight || bias ? runsOf(view) : "none";
  const { mean, variance } = stats;
  const operands = { x, residual: add?.residual, sum: add?.sum, weight, bias, y, mean, variance };
  const wide = byFours(operandsOf(runs), operands, size);
  const step = wide ? 4 : 1;
  const steps = size / step;
  const layout: Layout = { wide, runs, op: activation?.op ?? null };
  const kinds = { centred: mean !== null, added: add !== undefined };
  const whole = {
    ...{ steps, sets, channels: size / inner, inner, eps, alpha: activation?.alpha ?? 0, rows: count },
    inverse: 1 / size,
  };
  const { width, kept } = spread(steps, count);
  if (kept <= (count < FEW_ROWS ? PART_KEPT : MOST_KEPT)) {
    const parameters = { ...whole, parts: 1, part: steps, last_inverse: 1 / size };
    run(rows.get({ ...layout, ...kinds, width, kept }), { operands, parameters, groups: groupsOf(count, width) });
    return;
  }
  const part = LANES * PART_KEPT;
  const parts = Math.ceil(steps / part);
  const units = count * parts;
  const means = mean ? new Storage(units, "float64", "webgpu") : null;
  const variances = new Storage(units, "float64", "webgpu");
  const last_inverse = 1 / (size - (parts - 1) * part * step);
  const kind = { ...layout, op: null, ...kinds, width: LANES, kept: PART_KEPT };
  run(rows.get(kind), {
    operands: { ...operands, weight: null, bias: null, y: null, mean: means, variance: variances },
    parameters: { ...whole, parts, part, inverse: 1 / (part * step), last_inverse },
    groups: units,
  });
  run(merge.get({ centred: kinds.centred }), {
    operands: { means, variances, mean, variance },
    parameters: { parts, part: part * step, size, inverse: 1 / size },
    groups: count,
  });
  run(apply.get({ ...layout, centred: kinds.centred }), {
    operands: { x: add?.sum ?? x, weight, bias, y, mean, variance },
    parameters: whole,
    groups: Math.ceil((count * steps) / LANES),
  });
  means?.release();
  variances.release();
}
