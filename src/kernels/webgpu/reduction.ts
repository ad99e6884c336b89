import { arithmeticType, type DType, mixable } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import { Storage } from "../../memory/storage.js";
import type { KernelSet, ReduceOp, ReduceView } from "../kernel_set.js";
import { run } from "./device.js";
import { elementwise, only } from "./elementwise.js";
import { PAIR_SUM } from "./pairs.js";
import type { Program } from "./program.js";
import { joinText } from "./wgsl_reduce.js";

const LANES = 256;
/** Numbers of a row that one group reduces: the first where rows alone would leave most of a device idle. */
const ROW_PIECE = 4096;
const LONG_ROW_PIECE = 16384;
const FEW_ROWS = 512;
/** Numbers that one lane joins, at most, in runs: a sum of equal numbers rounds the same way each time, and 64 in a row lose 1e-6. */
const CHAIN = 64;
const RUN = 8;

/** What lanes carry while they reduce, in WGSL. */
interface Carrier {
  /** Its type for one number, and for as many as an element has. */
  readonly one: string;
  readonly any: string;
  readonly empty: string;
  /** v, a number read. */
  readonly take: string;
  /** a and b, where `bits` is the whole number beside each. */
  readonly join: (bits: string) => string;
  /** The result from v, of type `one`. */
  readonly give: string;
  /** Whether elements of four numbers can be taken. */
  readonly wide: boolean;
}

/** NaN is both largest and smallest; it is known by its bits. */
const nan = (v: string, bits: string): string =>
  `(bitcast<${bits}>(${v}) & ${bits}(0x7fffffffu)) > ${bits}(0x7f800000u)`;
const extreme = (sign: string) => (bits: string) =>
  `select(select(b, a, a ${sign} b), a + b, (${nan("a", bits)}) | (${nan("b", bits)}))`;

const takes: Partial<Record<ReduceOp, string>> = { sumSquares: "v * v", sumAbs: "abs(v)" };
const addition = (op: ReduceOp) => ({ empty: "0", take: takes[op] ?? "v", join: () => "a + b" });
const floats = (op: ReduceOp): Omit<Carrier, "one" | "any" | "give" | "wide"> =>
  op === "max"
    ? { empty: "-bitcast<f32>(INFINITE)", take: "v", join: extreme(">") }
    : op === "min"
      ? { empty: "bitcast<f32>(INFINITE)", take: "v", join: extreme("<") }
      : addition(op);
const integers = (op: ReduceOp): Omit<Carrier, "one" | "any" | "give" | "wide"> =>
  op === "max" || op === "min"
    ? { empty: op === "max" ? "-2147483647 - 1" : "2147483647", take: "v", join: () => `${op}(a, b)` }
    : op === "prod"
      ? { empty: "1", take: "v", join: () => "a * b" }
      : addition(op);

function carrierOf(op: ReduceOp, dtype: DType): Carrier {
  if (dtype === "int32") return { one: "i32", any: "I", give: "v", wide: true, ...integers(op) };
  if (dtype === "float64") {
    if (op !== "sum") throw new UnsupportedKernel(`${op} on webgpu takes float32 and int32`);
    return { one: "vec2f", any: "vec2f", empty: "0", take: "v", join: () => "pair_sum(a, b)", give: "v", wide: false };
  }
  if (op !== "prod") return { one: "f32", any: "E", give: "v", wide: true, ...floats(op) };
  const names = { empty: "0.5, 0.0, 1.0", take: "factor(v)", join: () => "factor_product(a, b)", give: "number(v)" };
  return { one: "vec3f", any: "vec3f", wide: false, ...names };
}

/** Factors: a pair in [1/2, 1) and a power of two, since a product rounds in every step and may leave float32 on its way. */
const EXACT = `${PAIR_SUM}
fn factor(v: f32) -> vec3f {
  let bits = bitcast<u32>(v);
  let exponent = (bits >> 23u) & 255u;
  if (exponent == 0u || exponent == 255u) { return vec3f(v, 0.0, 0.0); }
  return vec3f(bitcast<f32>((bits & 0x807fffffu) | 0x3f000000u), 0.0, f32(exponent) - 126.0);
}
fn factor_product(a: vec3f, b: vec3f) -> vec3f {
  let p = kept(a.x * b.x);
  if (p == 0.0 || !is_finite(p)) { return vec3f(p, 0.0, 0.0); }
  let rest = lost_of(p, a.x, b.x) + (a.x * b.y + a.y * b.x);
  let high = kept(p + rest);
  let scale = select(1.0, 2.0, abs(high) < 0.5);
  return vec3f(high, rest - kept(high - p), 0.0) * scale + vec3f(0.0, 0.0, a.z + b.z + 1.0 - scale);
}
fn number(v: vec3f) -> f32 {
  let e = i32(clamp(v.z, -300.0, 300.0));
  let third = e / 3;
  return ((v.x + v.y) * power_of_two(third) * power_of_two(third)) * power_of_two(e - 2 * third);
}
fn power_of_two(e: i32) -> f32 { return bitcast<f32>(u32(e + 127) << 23u); }`;

const programs = new Map<string, Program>();

/**
 * Lines are rows, or columns, or pieces of them; `width` lanes, neighbours, take one together. With `rows` a lane takes four
 * numbers of its row at a time, else one number of each of four columns. With `pairs` float32 numbers are written as float64.
 */
function reduceProgram(op: ReduceOp, dtype: DType, width: number, rows: boolean, pairs: boolean): Program {
  const name = `reduce_${op}_${dtype}_${width}${rows ? "_rows" : ""}${pairs ? "_pairs" : ""}`;
  const known = programs.get(name);
  if (known) return known;
  const { one, any, empty, take, join, give, wide } = carrierOf(op, dtype);
  const [step, across] = rows ? ["STEP", "1u"] : ["1u", "STEP"];
  const four = dtype === "int32" ? "vec4i" : "vec4f";
  const fold = wide
    ? `let q = ${four}(v); return select(join_one(join_one(q.x, q.y), join_one(q.z, q.w)), q.x, STEP == 1u);`
    : "return v;";
  const result = rows || !wide ? one : any;
  const program: Program = {
    name,
    operands: { x: { access: "read" }, y: { access: "write", narrow: rows } },
    parameters: { lines: "u32", reduce: "u32", inner: "u32", pieces: "u32", piece: "u32", zero: "u32" },
    lanes: LANES,
    wide,
    code: `
var<private> INFINITE: u32 = 0x7f800000u;
${EXACT}
fn join_one(a: ${one}, b: ${one}) -> ${one} { return ${join("u32")}; }
fn join_any(a: ${any}, b: ${any}) -> ${any} { return ${join("U")}; }
fn fold(v: ${any}) -> ${result} { ${rows ? fold : "return v;"} }
${joinText("join_lanes", result, LANES, width, rows ? "join_one(a, b)" : "join_any(a, b)")}
fn run(group: u32, lane: u32) {
  let line = group * ${LANES / width}u + lane / ${width}u;
  let inner = P.inner / ${across};
  let place = line / inner;
  let size = P.reduce / ${step};
  let piece = P.piece / ${step};
  let start = (place % P.pieces) * piece;
  let base = place / P.pieces * size;
  let column = line % inner;
  var sum = ${any}(${empty});
  if (line < P.lines / ${across}) {
    let stop = min(size, start + piece);
    for (var first = start + lane % ${width}u; first < stop; first += ${RUN * width}u) {
      var part = ${any}(${empty});
      for (var r = first; r < min(stop, first + ${RUN * width}u); r += ${width}u) {
        let v = x_at((base + r) * inner + column);
        part = join_any(part, ${take});
      }
      sum = join_any(sum, part);
    }
  }
  let v = join_lanes(fold(sum), lane);
  if (line < P.lines / ${across} && lane % ${width}u == 0u) { y_set(line, ${pairs ? "vec2f(v, 0.0)" : give}); }
}`,
  };
  programs.set(name, program);
  return program;
}

/** The power of two that is at least `n`, from 1 to `most`. */
export const lanesFor = (n: number, most: number): number => Math.min(most, 2 ** Math.ceil(Math.log2(Math.max(1, n))));

/** Lanes and numbers a piece; they follow from the shape alone. Pieces of a product would lose what its factors carry. */
function reducePlan(op: ReduceOp, x: Slot, view: ReduceView): { width: number; piece: number } {
  const plan = planOf(view);
  return op === "prod" && arithmeticType(x.dtype) === "float32" ? { ...plan, piece: Math.max(1, view.reduce) } : plan;
}

export function planOf({ outer, reduce, inner }: ReduceView): { width: number; piece: number } {
  if (inner === 1) {
    const piece = outer < FEW_ROWS ? ROW_PIECE : LONG_ROW_PIECE;
    return { width: lanesFor(reduce / 16, LANES), piece };
  }
  // Few lanes a column, so that those of neighbouring columns read whole lines of memory.
  const width = lanesFor(reduce / 16, inner % 4 === 0 ? 8 : 4);
  return { width, piece: CHAIN * width };
}

/** In pieces, whose results are reduced in their turn. y may be float64 beside an x of float32 or float16. */
export function reduceInto(op: ReduceOp, x: Slot, y: Slot, view: ReduceView): void {
  const { outer, reduce, inner } = view;
  const { width, piece } = reducePlan(op, x, view);
  const pieces = Math.max(1, Math.ceil(reduce / piece));
  const lines = outer * pieces * inner;
  const rows = inner === 1;
  const dtype = arithmeticType(x.dtype);
  const to = pieces === 1 ? y : new Storage(lines, dtype, "webgpu");
  const pairs = to.dtype === "float64" && dtype !== "float64";
  const program = reduceProgram(op, dtype, width, rows, pairs);
  run(program, {
    operands: { x, y: to },
    parameters: { lines, reduce, inner, pieces, piece, zero: 0 },
    groups: (step) => Math.ceil((lines * width) / (LANES * (rows ? 1 : step))),
    wide: (rows ? reduce : inner) % 4 === 0,
  });
  if (to === y) return;
  reduceInto(op === "sumSquares" || op === "sumAbs" ? "sum" : op, to, y, { outer, reduce: pieces, inner });
  (to as Storage).release();
}

/**
 * Numbers as keys in their order: NaN is the largest, and -0 is 0. A join takes the first of the largest keys. With candidates,
 * which are positions along the axis, only these are looked at.
 */
function argMaxProgram(width: number): Program {
  const name = `arg_max_${width}`;
  const known = programs.get(name);
  if (known) return known;
  const program: Program = {
    name,
    operands: { x: { access: "read" }, candidates: { access: "read" }, y: { access: "write" } },
    parameters: { lines: "u32", reduce: "u32", inner: "u32", pieces: "u32", piece: "u32", length: "u32" },
    lanes: LANES,
    code: `
fn first_of(a: vec2u, b: vec2u) -> vec2u { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }
${joinText("join_lanes", "vec2u", LANES, width, "first_of(a, b)")}
fn key(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return 0xffffffffu; }
  if (size == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}
fn run(group: u32, lane: u32) {
  let line = group * ${LANES / width}u + lane / ${width}u;
  let column = line % P.inner;
  let place = line / P.inner;
  let outer = place / P.pieces;
  let start = place % P.pieces * P.piece;
  var best = vec2u(0u, 0xffffffffu);
  if (line < P.lines) {
    for (var r = start + lane % ${width}u; r < min(P.length, start + P.piece); r += ${width}u) {
      var at = r;
      if (HAS_candidates) { at = u32(candidates_at((outer * P.length + r) * P.inner + column)); }
      best = first_of(best, vec2u(key(x_at((outer * P.reduce + at) * P.inner + column)), at));
    }
  }
  let found = join_lanes(best, lane);
  if (line < P.lines && lane % ${width}u == 0u) { y_set(line, i32(found.y)); }
}`,
  };
  programs.set(name, program);
  return program;
}

function argMaxInto(
  x: Slot,
  candidates: Slot | null,
  y: Slot,
  { outer, reduce, inner }: ReduceView,
  length: number,
): void {
  const { width, piece } = planOf({ outer, reduce: length, inner });
  const pieces = Math.ceil(length / piece);
  const lines = outer * pieces * inner;
  const to = pieces === 1 ? y : new Storage(lines, "int32", "webgpu");
  run(argMaxProgram(width), {
    operands: { x, candidates, y: to },
    parameters: { lines, reduce, inner, pieces, piece, length },
    groups: Math.ceil((lines * width) / LANES),
  });
  if (to === y) return;
  argMaxInto(x, to, y, { outer, reduce, inner }, pieces);
  (to as Storage).release();
}

export const reduction: Pick<KernelSet, "reduce" | "argMax"> = {
  reduce(op, x, y, view) {
    if (!mixable(x.dtype, y.dtype)) {
      throw new UnsupportedKernel(`reduce on webgpu takes one type, not ${x.dtype} and ${y.dtype}`);
    }
    reduceInto(op, x, y, view);
  },

  argMax(x, y, view) {
    only("argMax", ["float32"], x);
    if (view.reduce === 0) elementwise.fill(y, 0);
    else argMaxInto(x, null, y, view, view.reduce);
  },
};
