import type { ColumnView } from "../../norm/views.js";
import { fitsFour } from "./pipelines.js";
import type { Constants, Program } from "./program.js";
import { joinText } from "./wgsl_reduce.js";

/** Lanes of a workgroup that walks. */
export const LANES = 256;
/** Workgroups that fill a large device; more only make more partial results. */
const ENOUGH_GROUPS = 1024;
/** Elements that a lane takes together. */
const CHUNK = 8;
/** What one lane adds up: float32 sums of more would lose accuracy, of fewer cost more than they win. */
const MOST_CHUNKS = 16;
/** Elements side by side from which on a column is walked along itself. */
const LONG = 32;
/** Neighbouring columns that a workgroup takes; the other lanes take further rows. */
const ABREAST = 64;

/**
 * How workgroups go over [batch, outer, columns, length], each for a part of one statistic's values. Where a column is long
 * (channels first) all lanes of a workgroup follow one column; else (channels last) lanes lie along a row, each with a place in
 * it that it keeps, and below each other in rows. Both load what lies side by side.
 */
export interface Walk {
  readonly groups: number;
  readonly wide: boolean;
  /** Workgroups that share a column, each with a partial result. */
  readonly blocks: number;
  /** Partial results of a column in one block, and of how many values (in the last block fewer). */
  readonly places: number;
  readonly valuesPerBlock: number;
  readonly valuesPerPlace: number;
  readonly parameters: Readonly<Record<string, number>>;
  readonly constants: Constants;
}

export const walkParameters = {
  ...{ outer: "u32", columns: "u32", length: "u32", width: "u32", run: "u32", per: "u32", blocks: "u32" },
  ...{ tiles: "u32", units: "u32", abreast: "u32", step: "u32", turn: "u32", wrap: "u32", jump: "u32" },
} as const satisfies Program["parameters"];

export type Extent = Pick<ColumnView, "batch" | "outer"> & { readonly columns: number; readonly length: number };

/** Each channel by itself. */
export const channelsOf = ({ batch, outer, channels, inner }: ColumnView): Extent => ({
  ...{ batch, outer, columns: channels, length: inner },
});
/** Channels that share a statistic are one column. */
export const statisticsOf = ({ batch, outer, channels, inner, merge }: ColumnView): Extent => ({
  ...{ batch, outer, columns: channels / merge, length: merge * inner },
});

/** For one program and its operands, since those decide whether four elements are taken at once. */
export function walkOf(extent: Extent, program: Program, operands: Parameters<typeof fitsFour>[1]): Walk {
  const runs = extent.length >= LONG;
  const side = runs ? extent.length : extent.columns * extent.length;
  const wide = side % 4 === 0 && fitsFour(program, operands);
  return (runs ? alongColumns : alongRows)(extent, wide, wide ? 4 : 1);
}

/** How many of `size` steps of `lanes` each a workgroup takes, where `others` workgroups are there anyway. */
function perBlock(size: number, lanes: number, others: number): number {
  const wanted = Math.max(1, Math.ceil(ENOUGH_GROUPS / others));
  const loads = Math.ceil(size / (lanes * wanted) / CHUNK) * CHUNK;
  const blocks = Math.ceil(size / (lanes * Math.min(loads, CHUNK * MOST_CHUNKS)));
  return Math.ceil(size / (blocks * lanes)) * lanes;
}

function alongColumns({ batch, outer, columns, length }: Extent, wide: boolean, step: number): Walk {
  const run = length / step;
  const size = outer * run;
  const per = perBlock(size, LANES, batch * columns);
  const blocks = Math.ceil(size / per);
  const [rows, turn] = [Math.floor(LANES / run), LANES % run];
  const width = columns * run;
  return {
    ...{ groups: batch * columns * blocks, wide, blocks, places: 1 },
    ...{ valuesPerBlock: per * step, valuesPerPlace: size * step },
    parameters: {
      ...{ outer, columns, length, width, run, per, blocks, tiles: 1, units: 1, abreast: LANES },
      ...{ step: rows * width + turn, turn, wrap: run, jump: width - run },
    },
    constants: { RUNS: true, ...partsOf(wide) },
  };
}

function alongRows({ batch, outer, columns, length }: Extent, wide: boolean, step: number): Walk {
  const width = (columns * length) / step;
  const tiles = Math.ceil(width / ABREAST);
  const units = Math.ceil(width / tiles);
  const abreast = Math.floor(LANES / units);
  const per = perBlock(outer, abreast, batch * tiles);
  const blocks = Math.ceil(outer / per);
  return {
    ...{ groups: batch * blocks * tiles, wide, blocks, places: length },
    ...{ valuesPerBlock: per, valuesPerPlace: outer },
    parameters: {
      ...{ outer, columns, length, width, run: 1, per, blocks, tiles, units, abreast },
      ...{ step: abreast * width, turn: 0, wrap: 1, jump: 0 },
    },
    constants: { RUNS: false, ...partsOf(wide) },
  };
}

const partsOf = (wide: boolean): Constants => (wide ? { PART: "v[i]", PUT: "r[i]" } : { PART: "v", PUT: "r" });

/**
 * `start` gives a lane its first element and how many there are, `next` one after the other. `column_of` is the column of a part of an
 * element.
 */
export const WALK = `
struct Walker { at: u32, along: u32, loads: u32, entry: u32, block: u32, unit: u32, values: f32 }

fn start(group: u32, lane: u32) -> Walker {
  var w: Walker;
  if (RUNS) {
    let column = group / P.blocks;
    w.block = group % P.blocks;
    w.entry = column / P.columns;
    w.unit = column % P.columns;
    let begin = w.block * P.per;
    let end = min(P.outer * P.run, begin + P.per);
    w.values = f32((end - begin) * STEP);
    let j = begin + lane;
    if (j < end) { w.loads = (end - j + LANES - 1u) / LANES; }
    w.along = j % P.run;
    w.at = (w.entry * P.outer + j / P.run) * P.width + w.unit * P.run + w.along;
  } else {
    let rest = group / P.tiles;
    w.block = rest % P.blocks;
    w.entry = rest / P.blocks;
    w.unit = group % P.tiles * P.units + lane % P.units;
    let begin = w.block * P.per;
    let end = min(P.outer, begin + P.per);
    w.values = f32(end - begin);
    let row = lane / P.units;
    let r = begin + row;
    if (row < P.abreast && w.unit < P.width && r < end) { w.loads = (end - r + P.abreast - 1u) / P.abreast; }
    w.at = (w.entry * P.outer + r) * P.width + w.unit;
  }
  return w;
}

fn next(w: ptr<function, Walker>) -> u32 {
  let at = (*w).at;
  (*w).at = at + P.step;
  (*w).along += P.turn;
  if ((*w).along >= P.wrap) {
    (*w).along -= P.wrap;
    (*w).at += P.jump;
  }
  return at;
}

fn column_of(w: Walker, i: u32) -> u32 { return select((w.unit * STEP + i) / P.length, w.unit, RUNS); }
/** Lanes that have columns of their own. */
fn tells(w: Walker, lane: u32) -> bool { return lane < P.units && (RUNS || w.unit < P.width); }
/** Where the partial result of a part of an element lies. */
fn place_of(w: Walker, i: u32) -> u32 {
  let row = w.entry * P.blocks + w.block;
  return select(row * P.width * STEP + w.unit * STEP + i, row * P.columns + w.unit, RUNS);
}
/** How many parts of an element have a result of their own. */
const OWN = select(STEP, 1u, RUNS);

fn part(v: E, i: u32) -> f32 { return $PART; }
fn put(v: E, i: u32, s: f32) -> E {
  var r = v;
  $PUT = s;
  return r;
}
`;

/** `over_lanes` and `sum_over_lanes` add up what the lanes of a column have. Text that needs WALK and EXACT. */
export const OVER_LANES = `
var<workgroup> highs: array<E, LANES>;
var<workgroup> lows: array<E, LANES>;
fn over_lanes(v: E, lane: u32) -> E {
  workgroupBarrier();
  highs[lane] = v;
  workgroupBarrier();
  var rows = P.abreast;
  while (rows > 1u) {
    let half = (rows + 1u) / 2u;
    if (lane < (rows - half) * P.units) { highs[lane] += highs[lane + half * P.units]; }
    rows = half;
    workgroupBarrier();
  }
  let all = highs[lane % P.units];
  if (!RUNS) { return all; }
  var sum = E(part(all, 0u));
  for (var i = 1u; i < STEP; i++) { sum += part(all, i); }
  return sum;
}
fn sum_over_lanes(s: Sum, lane: u32) -> Sum {
  workgroupBarrier();
  highs[lane] = s.high;
  lows[lane] = s.low;
  workgroupBarrier();
  var rows = P.abreast;
  while (rows > 1u) {
    let half = (rows + 1u) / 2u;
    if (lane < (rows - half) * P.units) {
      let other = lane + half * P.units;
      var both = Sum(highs[lane], lows[lane]);
      add_sum(&both, Sum(highs[other], lows[other]));
      highs[lane] = both.high;
      lows[lane] = both.low;
    }
    rows = half;
    workgroupBarrier();
  }
  let at = lane % P.units;
  if (!RUNS) { return plus(highs[at], lows[at]); }
  var sum = Sum(E(part(highs[at], 0u)), E(part(lows[at], 0u)));
  for (var i = 1u; i < STEP; i++) { add_sum(&sum, Sum(E(part(highs[at], i)), E(part(lows[at], i)))); }
  return plus(sum.high, sum.low);
}
`;

/** `places` in memory: those of all blocks. */
export const placesIn = ({ batch, columns }: Extent, { blocks, places }: Walk): number =>
  batch * columns * blocks * places;

/** For shaders that join the partial results of statistics. */
export const joinParameters = {
  ...{ columns: "u32", blocks: "u32", places: "u32", plane: "u32" },
} as const satisfies Program["parameters"];

export const joinOf = (extent: Extent, walk: Walk): Record<string, number> => ({
  ...{ columns: extent.columns, blocks: walk.blocks, places: walk.places, plane: placesIn(extent, walk) },
});

export const JOIN_LANES = 64;
/** `sum_of`: a sum in two parts over the lanes, which all get. Text that needs EXACT, for numbers one by one. */
export const SUMS = `
fn pair_plus(a: vec2f, b: vec2f) -> vec2f {
  let s = plus(a.x, b.x);
  return vec2f(s.high, s.low + (a.y + b.y));
}
${joinText("sum_pairs", "vec2f", JOIN_LANES, JOIN_LANES, "pair_plus(a, b)")}
fn sum_of(s: Sum, lane: u32) -> Sum {
  let all = sum_pairs(vec2f(s.high, s.low), lane);
  return plus(all.x, all.y);
}
`;

/** Partial result j of a statistic. */
export const JOIN = `
fn joined(statistic: u32, j: u32) -> u32 {
  let entry = statistic / P.columns;
  let column = statistic % P.columns;
  return ((entry * P.blocks + j / P.places) * P.columns + column) * P.places + j % P.places;
}
`;
