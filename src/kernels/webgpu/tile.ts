import type { Program } from "./program.js";

/**
 * A workgroup's share of a product: `rows` x `columns` lanes, each with `down` x `across` results (multiples of four), and
 * `depth` products a step, whose factors lie in workgroup memory.
 */
export interface TileShape {
  readonly rows: number;
  readonly columns: number;
  readonly down: number;
  readonly across: number;
  readonly depth: number;
}

export const height = ({ rows, down }: TileShape): number => rows * down;
export const width = ({ columns, across }: TileShape): number => columns * across;
export const lanesOf = ({ rows, columns }: TileShape): number => rows * columns;

/** Whether neighbouring numbers of a factor in memory differ in depth, or in the row (left) or column (right). */
export interface Along {
  readonly left: boolean;
  readonly right: boolean;
}

/**
 * A product of matrices y(i, j) = sum over p of left(i, p) right(p, j), of `P.m` x `P.n` results, for each of many `batch`es.
 * Its text says where numbers lie:
 * - `Left` and `left(batch, i)`: what can be known before the loop of the rows i to i + 3; `left_four(s, p, live)`: their
 *   numbers at depth p, 0 where not live; `Right`, `right(batch, j)` and `right_four(s, p, live)`: the same of columns;
 * - `depth_of(batch)`: products in a result, the same for all lanes;
 * - `row_place(batch, i) + column_places(batch, j)`: the elements of y at j to j + 3; a column may be NOWHERE, as those beyond
 *   n have to be;
 * - `row_extra(batch, i)` and `column_extra(batch, j)`: what is added to the results of a row and of four columns.
 */
export interface Product {
  readonly name: string;
  readonly operands: Program["operands"];
  readonly parameters: Program["parameters"];
  readonly code: string;
}

/** Parameters of every tiled product, beside its own: P.share products of each result are one of P.splits parts. */
export const tileParameters: Program["parameters"] = {
  ...{ m: "u32", n: "u32", depth: "u32", tilesDown: "u32", tilesAcross: "u32" },
  ...{ splits: "u32", share: "u32", length: "u32" },
};

/** Four numbers of an operand; 0 where `ok` is false, whatever lies there. */
export const picks = (name: string): string => `
fn ${name}_pick(i: vec4u, ok: vec4<bool>) -> vec4f {
  let k = select(vec4u(0u), i, ok);
  return select(vec4f(0.0), vec4f(${name}_at(k.x), ${name}_at(k.y), ${name}_at(k.z), ${name}_at(k.w)), ok);
}`;

const programs = new Map<Product, Map<string, Program>>();

/** The shader of a product for one shape of tile. */
export function tileProgram(product: Product, shape: TileShape, along: Along): Program {
  let made = programs.get(product);
  if (!made) {
    made = new Map();
    programs.set(product, made);
  }
  const key = `${Object.values(shape)},${along.left},${along.right}`;
  let program = made.get(key);
  if (!program) {
    program = {
      name: `${product.name}_${height(shape)}x${width(shape)}`,
      operands: { ...product.operands, y: { access: "write" } },
      parameters: { ...tileParameters, ...product.parameters },
      lanes: lanesOf(shape),
      code: `${product.code}\n${tileText(shape, along)}`,
    };
    made.set(key, program);
  }
  return program;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * Numbers of one step are fetched before the step ahead of it is computed, and arrive meanwhile. Workgroup memory holds four rows (columns) in a vec4f,
 * whole, since writing parts of one is no write of its own everywhere; a step of depth is odd in vec4f, so that lanes that
 * differ in depth write to different banks.
 */
function tileText(shape: TileShape, along: Along): string {
  const { rows, columns, down, across, depth } = shape;
  const [left, right] = [
    side("left", height(shape), shape, along.left),
    side("right", width(shape), shape, along.right),
  ];
  const [bands, blocks] = [upTo(down / 4), upTo(across / 4)];
  const results = upTo(down).flatMap((r) => blocks.map((h) => `c${r}_${h}`));
  return `
const NOWHERE = 0xffffffffu;
var<workgroup> left_tile: array<vec4f, ${depth * left.stride}>;
var<workgroup> right_tile: array<vec4f, ${depth * right.stride}>;

fn put(place: u32, columns: vec4u, v: vec4f) {
  if (columns.x != NOWHERE) { y_set(place + columns.x, v.x); }
  if (columns.y != NOWHERE) { y_set(place + columns.y, v.y); }
  if (columns.z != NOWHERE) { y_set(place + columns.z, v.z); }
  if (columns.w != NOWHERE) { y_set(place + columns.w, v.w); }
}

fn run(group: u32, lane: u32) {
  // Bands of eight rows of tiles: groups that run together share the numbers of few rows and columns.
  let tiles = P.tilesDown * P.tilesAcross;
  let tile = group % tiles;
  let part = (group / tiles) % P.splits;
  let batch = group / tiles / P.splits;
  let band = tile / (8u * P.tilesAcross);
  let band_rows = min(8u, P.tilesDown - band * 8u);
  let within = tile - band * 8u * P.tilesAcross;
  let first_row = (band * 8u + within % band_rows) * ${height(shape)}u;
  let first_column = (within / band_rows) * ${width(shape)}u;
  let begin = part * P.share;
  let stop = min(depth_of(batch), begin + P.share);
  let y_lane = lane / ${columns}u;
  let x_lane = lane % ${columns}u;
  ${left.prepare}
  ${right.prepare}
  ${results.map((c) => `var ${c} = vec4f(0.0);`).join(" ")}
  ${left.declare} ${right.declare}
  for (var at = begin;; at += ${depth}u) {
    if (at < stop) { ${left.fetch} ${right.fetch} }
    if (at > begin) {
      for (var k = 0u; k < ${depth}u; k++) {
        ${bands.map((g) => `let a${g} = left_tile[k * ${left.stride}u + y_lane + ${g * rows}u];`).join(" ")}
        ${blocks.map((h) => `let b${h} = right_tile[k * ${right.stride}u + x_lane + ${h * columns}u];`).join(" ")}
        ${results.map((c) => `${c} += ${factors(c)};`).join("\n        ")}
      }
    }
    if (at >= stop) { break; }
    workgroupBarrier();
    ${left.store} ${right.store}
    workgroupBarrier();
  }
  ${blocks
    .map(
      (h) => `let j${h} = first_column + (x_lane + ${h * columns}u) * 4u;
  let places${h} = column_places(batch, j${h}); let extra${h} = column_extra(batch, j${h});`,
    )
    .join("\n  ")}
  ${upTo(down)
    .map(
      (r) => `{
    let i = first_row + (y_lane + ${Math.floor(r / 4) * rows}u) * 4u + ${r % 4}u;
    if (i < P.m) {
      let place = row_place(batch, i) + part * P.length;
      let extra = row_extra(batch, i);
      ${blocks.map((h) => `put(place, places${h}, c${r}_${h} + extra + extra${h});`).join(" ")}
    }
  }`,
    )
    .join("\n  ")}
}`;
}

function factors(result: string): string {
  const [row, block] = result.slice(1).split("_").map(Number);
  return `a${Math.floor(row! / 4)}.${"xyzw"[row! % 4]} * b${block}`;
}

/** How lanes bring one factor's numbers of a step into workgroup memory. */
function side(name: "left" | "right", length: number, shape: TileShape, alongDepth: boolean) {
  const { depth } = shape;
  const lanes = lanesOf(shape);
  const quads = length / 4;
  const total = quads * depth;
  const stride = quads + 1;
  const turns = upTo(Math.ceil(total / lanes));
  // Where a lane has the same rows at each turn, it prepares them once.
  const same = !alongDepth && lanes % quads === 0;
  const first = `first_${name === "left" ? "row" : "column"}`;
  const whole = total % lanes === 0;
  const prepare = turns.map((t) => {
    const e = `(lane + ${t * lanes}u)`;
    const [p, q] = alongDepth ? [`${e} % ${depth}u`, `${e} / ${depth}u`] : [`${e} / ${quads}u`, `${e} % ${quads}u`];
    const state =
      same && t > 0
        ? `let ${name}_s${t} = ${name}_s0;`
        : `let ${name}_s${t} = ${name}(batch, ${first} + ${name}_q${t} * 4u);`;
    return `let ${name}_q${t} = ${q}; let ${name}_p${t} = ${p}; ${state}`;
  });
  const inside = (t: number): string => `lane < ${total - t * lanes}u`;
  const partial = (t: number): boolean => !whole && t === turns.length - 1;
  const fetch = turns.map((t) => {
    const live = `at + ${name}_p${t} < stop${partial(t) ? ` && ${inside(t)}` : ""}`;
    return `${name}_v${t} = ${name}_four(${name}_s${t}, at + ${name}_p${t}, ${live});`;
  });
  const store = turns.map((t) => {
    const write = `${name}_tile[${name}_p${t} * ${stride}u + ${name}_q${t}] = ${name}_v${t};`;
    return partial(t) ? `if (${inside(t)}) { ${write} }` : write;
  });
  return {
    stride,
    prepare: prepare.join("\n  "),
    declare: turns.map((t) => `var ${name}_v${t} = vec4f(0.0);`).join(" "),
    fetch: fetch.join(" "),
    store: store.join(" "),
  };
}
