import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { RowView } from "../../norm/views.js";
import type { NormActivationGrad, NormGrads, RowStats } from "../kernel_set.js";
import { run } from "./device.js";
import { mergeAffine } from "./norm_merge.js";
import { type GradLayout, gradOperands, gradText, loadGrads } from "./row_norm_grad_text.js";
import { longGradients } from "./row_norm_long_grad.js";
import { BUSY, byFours, each, LANES, PAIRS_OUT, Programs, rowParameters, runsOf, spread } from "./row_norm_text.js";
import { sumText } from "./wgsl_reduce.js";

/** Elements that a lane keeps at most, x and dy of each; with sums for dWeight and dBias twice as many registers go. */
const MOST_KEPT = 12;
const MOST_SUMMED = 8;
const FEW_ROWS = 64;
const FEW_KEPT = 4;
/** Rows that a lane adds up at most for dWeight and dBias, since a longer float32 sum would lose digits. */
const MOST_TURNS = 64;

interface Kind extends GradLayout {
  readonly width: number;
  readonly kept: number;
  /** Sums for dWeight and dBias: none, of each column, or of each row, all of which then belongs to one weight. */
  readonly sums: "none" | "columns" | "rows";
}

/**
 * dx of rows that a run of lanes keeps in registers. A workgroup takes rows of one set of weights in turn, and adds up what
 * they give to dWeight and dBias.
 */
const rows = new Programs<Kind>((kind) => {
  const { width, kept, sums, centred, wide } = kind;
  const columns = sums === "columns";
  const slots = LANES / width;
  const all = (body: (k: number) => string) => Array.from({ length: kept }, (_, k) => body(k)).join("\n  ");
  const parts = wide ? ["x", "y", "z", "w"] : [""];
  return {
    name: "row_norm_grad",
    operands: { ...gradOperands(kind.runs), partial: PAIRS_OUT },
    parameters: { ...rowParameters, batch: "u32", stride: "u32", turns: "u32" },
    lanes: LANES,
    wide,
    code: `${gradText(kind)}
${sumText("sum", "vec2f", LANES, width)}
${columns && slots > 1 ? slotsText(width) : ""}
fn run(group: u32, lane: u32) {
  let l = lane % ${width}u;
  let slot = lane / ${width}u;
  let which = group % P.stride;
  ${columns ? all((k) => `var dw${k} = E(0.0); var db${k} = E(0.0);`) : ""}
  for (var turn = 0u; turn < P.turns; turn += 1u) {
    let n = (group / P.stride * P.turns + turn) * ${slots}u + slot;
    let r = n * P.stride + which;
    let first = r * P.steps;
    let count = select(0u, P.steps, n < P.batch);
    let last = max(P.steps, 1u) - 1u;
    ${loadGrads(kept, width, centred)}
    var a = E(0.0);
    var b = E(0.0);
    ${each(kept, width, (k, i) => {
      const weighted = sums === "rows" ? "" : `g${k} *= weight_of(r, ${i});`;
      return `${kind.op ? `g${k} = through(c${k} * weight_of(r, ${i}) + bias_of(r, ${i}), g${k});` : ""}
      ${columns ? `dw${k} += g${k} * c${k}; db${k} += g${k};` : ""}
      ${weighted} a += g${k} * c${k}; b += g${k};`;
    })}
    let s = sum(vec2f(total(a), total(b)), lane);
    ${sums === "rows" ? "if (l == 0u && count > 0u) { partial_set(r, s); }" : ""}
    if (HAS_dx) {
      ${each(kept, width, (k, i) => {
        const scale = sums === "rows" ? `rho * weight_of(r, ${i})` : "rho";
        return `dx_set(first + ${i}, ${scale} * (g${k} ${centred ? "- s.y * P.inverse " : ""}- c${k} * (s.x * P.inverse)));`;
      })}
    }
  }
  ${columns && slots > 1 ? all((k) => `dw${k} = slots(dw${k}, lane); db${k} = slots(db${k}, lane);`) : ""}
  ${
    columns
      ? `if (slot == 0u) {
    let count = P.steps;
    ${each(kept, width, (k, i) =>
      parts
        .map((c, at) => {
          const of = (name: string) => `${name}${k}${c && `.${c}`}`;
          return `partial_set((group * P.steps + ${i}) * STEP + ${at}u, vec2f(${of("dw")}, ${of("db")}));`;
        })
        .join(" "),
    )}
  }`
      : ""
  }
}`,
  };
});

/** Sums over the runs of lanes, for each place in a run, in the first run. */
const slotsText = (width: number): string => `
var<workgroup> slots_all: array<E, LANES>;
fn slots(v: E, lane: u32) -> E {
  workgroupBarrier();
  slots_all[lane] = v;
  workgroupBarrier();
  for (var half = LANES / 2u; half >= ${width}u; half /= 2u) {
    if (lane < half) { slots_all[lane] += slots_all[lane + half]; }
    workgroupBarrier();
  }
  return slots_all[lane % ${width}u];
}`;

export function gradients(
  x: Slot,
  dy: Slot,
  weight: Slot | null,
  stats: RowStats,
  out: NormGrads,
  view: RowView,
  eps: number,
  activation: NormActivationGrad | null,
): void {
  const { rows: count, size, inner, groups: sets } = view;
  const bias = activation?.bias ?? null;
  const affine = out.dWeight !== null || out.dBias !== null;
  const elements = (sets * size) / inner;
  const runs = weight || bias || affine ? runsOf(view) : "none";
  const operands = { x, dy, weight, bias, dx: out.dx, ...stats };
  const wide = byFours(gradOperands(runs), operands, size);
  const steps = size / (wide ? 4 : 1);
  const { width, kept } = spread(steps, count);
  const parameters = {
    ...{ steps, sets, channels: size / inner, inner, eps, inverse: 1 / size, alpha: activation?.alpha ?? 0 },
  };
  const layout: GradLayout = { wide, runs, op: activation?.op ?? null, centred: stats.mean !== null };
  const one = inner === size && runs !== "none";
  const sums = !affine ? "none" : one ? "rows" : "columns";
  const most = sums === "columns" ? MOST_SUMMED : MOST_KEPT;
  if ((runs !== "none" && !one && affine) || kept > (count < FEW_ROWS ? Math.min(FEW_KEPT, most) : most)) {
    longGradients({ operands, out, view, parameters, layout });
    return;
  }
  const stride = sums === "columns" ? sets : 1;
  const batch = count / stride;
  const slots = LANES / width;
  const many = sums === "columns" ? Math.ceil((batch * stride) / (slots * BUSY)) : 1;
  const turns = Math.max(1, Math.min(MOST_TURNS, many));
  const blocks = Math.ceil(batch / (slots * turns));
  const partial = affine ? new Storage(sums === "rows" ? count : blocks * elements, "float64", "webgpu") : null;
  run(rows.get({ ...layout, width, kept, sums }), {
    operands: { ...operands, partial },
    parameters: { ...parameters, batch, stride, turns },
    groups: blocks * stride,
  });
  if (!partial) return;
  mergeAffine(partial, out, sums === "rows" ? count / sets : blocks, elements, 1);
  partial.release();
}
