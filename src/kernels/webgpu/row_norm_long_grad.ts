import { Storage } from "../../memory/storage.js";
import type { RowView } from "../../norm/views.js";
import type { NormGrads } from "../kernel_set.js";
import { type Dispatch, run } from "./device.js";
import { mergeAffine } from "./norm_merge.js";
import { type GradLayout, gradOperands, gradText, loadGrads, statsOf, xhat } from "./row_norm_grad_text.js";
import { BUSY, each, groupsOf, LANES, PAIRS_IN, PAIRS_OUT, Programs, rowParameters, spread } from "./row_norm_text.js";
import { sumText } from "./wgsl_reduce.js";

/** Elements that a lane adds up at most, for a sum of a part of a row. */
const PART_KEPT = 8;
/** Rows that a lane adds up for the sums of a column. */
const MOST_ROWS = 32;

interface PartKind extends GradLayout {
  readonly width: number;
  readonly kept: number;
}

/**
 * Sums of g * xhat and of g over parts of rows. With runs a part lies within one, and g is dy, so that the sums serve dWeight
 * and dBias too; else g is weight * dy.
 */
const parts = new Programs<PartKind>((kind) => {
  const { width, kept, wide, runs, op, centred } = kind;
  return {
    name: "row_norm_grad_parts",
    operands: { ...gradOperands(runs), partial: PAIRS_OUT },
    parameters: { ...rowParameters, run: "u32", parts: "u32", part: "u32", units: "u32", within: "u32" },
    lanes: LANES,
    wide,
    code: `${gradText(kind)}
${sumText("sum", "vec2f", LANES, width)}
fn run(group: u32, lane: u32) {
  let unit = group * ${LANES / width}u + lane / ${width}u;
  let l = lane % ${width}u;
  let piece = unit / P.parts;
  let offset = unit % P.parts * P.part;
  let r = piece / P.within;
  let here = piece % P.within * P.run + offset;
  let first = piece * P.run + offset;
  let count = select(0u, min(P.part, P.run - offset), unit < P.units);
  let last = max(count, 1u) - 1u;
  ${loadGrads(kept, width, centred)}
  var a = E(0.0);
  var b = E(0.0);
  ${each(kept, width, (k, i) => {
    const z = `c${k} * weight_of(r, here + ${i}) + bias_of(r, here + ${i})`;
    return `${op ? `g${k} = through(${z}, g${k});` : ""}
    ${runs === "none" ? `g${k} *= weight_of(r, here + ${i});` : ""} a += g${k} * c${k}; b += g${k};`;
  })}
  let s = sum(vec2f(total(a), total(b)), lane);
  if (l == 0u && unit < P.units) { partial_set(unit, s); }
}`,
  };
});

/** Sums of weight * dy of whole rows from those of their parts. */
const gather = new Programs<{ width: number }>(({ width }) => ({
  name: "row_norm_grad_rows",
  operands: {
    ...{ partial: PAIRS_IN, sums: PAIRS_OUT },
    weight: { access: "read", absent: "1.0" },
  },
  parameters: { rows: "u32", sets: "u32", within: "u32", parts: "u32" },
  lanes: LANES,
  code: `${sumText("sum", "vec2f", LANES, width)}
fn run(group: u32, lane: u32) {
  let r = group * ${LANES / width}u + lane / ${width}u;
  let terms = P.within * P.parts;
  var s = vec2f(0.0);
  if (r < P.rows) {
    for (var t = lane % ${width}u; t < terms; t += ${width}u) {
      s += weight_at(r % P.sets * P.within + t / P.parts) * partial_at(r * terms + t);
    }
  }
  let all = sum(s, lane);
  if (lane % ${width}u == 0u && r < P.rows) { sums_set(r, all); }
}`,
}));

/** dx from the sums of rows, element by element. */
const apply = new Programs<GradLayout>((kind) => ({
  name: "row_norm_grad_dx",
  operands: { ...gradOperands(kind.runs), sums: PAIRS_IN },
  parameters: { ...rowParameters, rows: "u32" },
  lanes: LANES,
  wide: kind.wide,
  code: `${gradText(kind)}
fn run(group: u32, lane: u32) {
  let at = group * LANES + lane;
  if (at >= P.rows * P.steps) { return; }
  let r = at / P.steps;
  let i = at % P.steps;
  ${statsOf(kind.centred)}
  let c = ${xhat("x_at(at)", kind.centred)};
  let w = weight_of(r, i);
  var g = dy_at(at);
  ${kind.op ? "g = through(c * w + bias_of(r, i), g);" : ""}
  let s = sums_at(r) * P.inverse;
  dx_set(at, rho * (g * w ${kind.centred ? "- s.y " : ""}- c * s.x));
}`,
}));

interface ColumnKind extends GradLayout {
  /** Whether sums of rows are wanted too. */
  readonly summed: boolean;
}

/** Rows that a lane has under way at once. */
const ABREAST = [0, 1];

/**
 * Sums of dy * xhat and of dy over blocks of rows, of each column: each lane walks down one, or four. And sums over its tile of
 * columns for each row of what dx takes, weight * dy * xhat and weight * dy, so that x and dy are not read for those again.
 */
const columns = new Programs<ColumnKind>((kind) => {
  const { wide, op, centred, summed } = kind;
  const rows = (text: (k: number) => string): string => ABREAST.map(text).join("\n    ");
  const rowSums = `
    let all = sum(vec4f(total(w0 * c0), total(w0), total(w1 * c1), total(w1)), lane);
    if (lane == 0u) {
      sums_set(r0 * P.tiles + tile, all.xy);
      if (n + 1u < end) { sums_set(r1 * P.tiles + tile, all.zw); }
    }`;
  return {
    name: "row_norm_grad_columns",
    operands: { ...gradOperands(kind.runs), partial: PAIRS_OUT, sums: PAIRS_OUT },
    parameters: { ...rowParameters, batch: "u32", block: "u32", tiles: "u32" },
    lanes: LANES,
    wide,
    code: `${gradText(kind)}
${summed ? sumText("sum", "vec4f", LANES) : ""}
fn run(group: u32, lane: u32) {
  let tile = group % P.tiles;
  let i = min(tile * LANES + lane, P.steps - 1u);
  let inside = tile * LANES + lane < P.steps;
  let which = group / P.tiles;
  let begin = which / P.sets * P.block;
  let end = min(begin + P.block, P.batch);
  var dw = E(0.0);
  var db = E(0.0);
  for (var n = begin; n < end; n += ${ABREAST.length}u) {
    ${rows((k) => `let r${k} = min(n + ${k}u, end - 1u) * P.sets + which % P.sets; let at${k} = r${k} * P.steps + i;`)}
    ${rows((k) => `let x${k} = x_at(at${k}); let y${k} = dy_at(at${k});`)}
    ${rows((k) => `let c${k} = xhat_of(x${k}, r${k});`)}
    ${rows((k) => {
      const g = op ? `through(c${k} * weight_of(r${k}, i) + bias_of(r${k}, i), y${k})` : `y${k}`;
      return `let g${k} = select(E(0.0), ${g}, inside && n + ${k}u < end);`;
    })}
    // A row that stands in for one beyond the end adds nothing, not even its Inf or NaN.
    ${rows((k) => `dw += select(E(0.0), g${k} * c${k}, n + ${k}u < end); db += g${k};`)}
    ${summed ? rows((k) => `let w${k} = g${k} * weight_of(r${k}, i);`) + rowSums : ""}
  }
  if (!inside) { return; }
  ${(wide ? [".x", ".y", ".z", ".w"] : [""])
    .map((c, k) => `partial_set((which * P.steps + i) * STEP + ${k}u, vec2f(dw${c}, db${c}));`)
    .join("\n  ")}
}
fn xhat_of(x: E, r: u32) -> E {
  ${statsOf(centred)}
  return ${xhat("x", centred)};
}`,
  };
});

interface Call {
  readonly operands: Dispatch["operands"];
  readonly out: NormGrads;
  readonly view: RowView;
  readonly parameters: NonNullable<Dispatch["parameters"]>;
  readonly layout: GradLayout;
}

/** Rows that no workgroup can keep, or that weights divide into runs. */
export function longGradients(call: Call): void {
  const { out, view, layout } = call;
  const affine = out.dWeight !== null || out.dBias !== null;
  const byColumns = affine && layout.runs === "none";
  if (!byColumns && !out.dx && layout.runs === "none") return;
  const sums = byColumns ? columnSums(call) : partSums(call);
  if (!sums) return;
  const { partial, within, count } = sums;
  if (affine && !byColumns) mergeAffine(partial, out, view.rows / view.groups, view.groups * within, count);
  // dx comes last, since it may lie where x or dy does.
  if (out.dx) rowsDx(call, sums);
  partial.release();
}

/** Pairs [rows, within, count]: `within` runs a row, in `count` parts each. */
interface Parts {
  readonly partial: Storage;
  readonly within: number;
  readonly count: number;
}

function partSums({ operands, view: { rows, size, inner }, parameters, layout }: Call): Parts {
  const { runs } = layout;
  const within = runs === "none" ? 1 : size / inner;
  // A part begins where a run does, which four elements at a time need not hit.
  const wide = layout.wide && runs !== "any";
  const steps = size / (wide ? 4 : 1);
  const length = steps / within;
  const fits = spread(length, rows * within);
  const { width, kept } = fits.kept > PART_KEPT ? { width: LANES, kept: PART_KEPT } : fits;
  const part = width * kept;
  const count = Math.max(1, Math.ceil(length / part));
  const units = rows * within * count;
  const partial = new Storage(units, "float64", "webgpu");
  run(parts.get({ ...layout, wide, width, kept }), {
    operands: { ...operands, dx: null, partial },
    parameters: { ...parameters, steps, run: length, parts: count, part, units, within },
    groups: groupsOf(units, width),
  });
  return { partial, within, count };
}

function rowsDx({ operands, view, parameters, layout }: Call, { partial, within, count }: Parts): void {
  const { rows, groups: sets } = view;
  const sums = new Storage(rows, "float64", "webgpu");
  const { width } = spread(within * count, rows);
  run(gather.get({ width }), {
    operands: { partial, sums, weight: layout.runs === "none" ? null : operands.weight },
    parameters: { rows, sets, within, parts: count },
    groups: groupsOf(rows, width),
  });
  const groups = Math.ceil((rows * parameters.steps!) / LANES);
  run(apply.get(layout), { operands: { ...operands, sums }, parameters: { ...parameters, rows }, groups });
  sums.release();
}

/** dWeight and dBias; and for dx the sums of rows, a part for each tile of columns. */
function columnSums({ operands, out, view: { rows, size, groups: sets }, parameters, layout }: Call): Parts | null {
  const batch = rows / sets;
  const tiles = Math.ceil(parameters.steps! / LANES);
  const block = Math.max(1, Math.min(MOST_ROWS, Math.ceil((rows * tiles) / BUSY)));
  const blocks = Math.ceil(batch / block);
  const summed = out.dx !== null;
  const partial = new Storage(blocks * sets * size, "float64", "webgpu");
  const sums = summed ? new Storage(rows * tiles, "float64", "webgpu") : null;
  run(columns.get({ ...layout, summed }), {
    operands: { ...operands, dx: null, partial, sums },
    parameters: { ...parameters, batch, block, tiles },
    groups: blocks * sets * tiles,
  });
  mergeAffine(partial, out, blocks, sets * size, 1);
  partial.release();
  return sums && { partial: sums, within: 1, count: tiles };
}
