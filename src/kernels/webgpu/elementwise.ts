import { arithmeticType, mixable } from "../../base/dtype.js";
import { UnsupportedKernel } from "../../base/errors.js";
import type { Slot } from "../../memory/heap.js";
import type { BinaryOp, BroadcastPlan, KernelSet, UnaryOp } from "../kernel_set.js";
import { expression, expressions } from "./chain_text.js";
import { type GroupsBySteps, run, runElements } from "./device.js";
import { MATH } from "./math.js";
import { PAIRS, pairBinaries, pairUnaries } from "./pairs.js";
import type { Program } from "./program.js";

const LANES = 256;

/** Groups for one lane an element, which is a number or, where shader and operands allow it, four. */
export const groupsFor =
  (numbers: number): GroupsBySteps =>
  (step) =>
    Math.ceil(numbers / (LANES * step));

/** A shader that computes each element of y by itself; `code` defines `f(i)`. */
export function elementProgram(
  name: string,
  inputs: readonly string[],
  code: string,
  parameters: Program["parameters"] = {},
): Program {
  const reads = Object.fromEntries(inputs.map((input) => [input, { access: "read" as const }]));
  return {
    name,
    operands: { ...reads, y: { access: "write" } },
    parameters: { size: "u32", ...parameters },
    lanes: LANES,
    wide: true,
    code: `${code}
fn run(group: u32, lane: u32) {
  let i = group * LANES + lane;
  if (i < (P.size + STEP - 1u) / STEP) { y_set(i, f(i)); }
}`,
  };
}

const fill = elementProgram("fill", [], "fn f(i: u32) -> $T { return $VALUE; }", {
  value: "f32",
  rest: "f32",
  whole: "i32",
});
const fills: Readonly<Record<string, { T: string; VALUE: string }>> = {
  float32: { T: "E", VALUE: "E(P.value)" },
  float64: { T: "vec2f", VALUE: "vec2f(P.value, P.rest)" },
  int32: { T: "I", VALUE: "I(P.whole)" },
};
const fillOf = expression({}, "E(k)", [], "value");

const cast = elementProgram(
  "cast",
  ["x"],
  `${MATH}
fn f(i: u32) -> $T { let v = x_at(i); return $VALUE; }`,
);
const castOf = expression({ x: "v" }, "v");
/** v as the other type. Float to int32 goes towards zero and stays within the type, NaN becomes 0. */
const casts: Readonly<Record<string, { T: string; VALUE: string }>> = {
  "float32 float32": { T: "E", VALUE: "v" },
  "int32 int32": { T: "I", VALUE: "v" },
  "float64 float64": { T: "vec2f", VALUE: "v" },
  "float32 float64": { T: "vec2f", VALUE: "vec2f(v, 0.0)" },
  "float64 float32": { T: "E", VALUE: "v.x + v.y" },
  "int32 float32": { T: "E", VALUE: "E(v)" },
  // The upper 16 bits and the lower ones are float32 numbers each.
  "int32 float64": { T: "vec2f", VALUE: "vec2f(f32(v & -65536), f32(v & 65535))" },
  "float32 int32": {
    T: "I",
    VALUE:
      "select(select(I(clamp(v, E(-2147483648.0), E(2147483520.0))), I(2147483647), v >= E(2147483648.0)), I(0), is_nan(v))",
  },
  "float64 int32": { T: "I", VALUE: "I(v.x + v.y)" },
};

const unary = elementProgram(
  "unary",
  ["x"],
  `${MATH}
fn f(i: u32) -> $T { let v = x_at(i); return $VALUE; }`,
);
const unaries: Readonly<Record<UnaryOp, string>> = {
  ...{ neg: "-v", abs: "abs(v)", sign: "sign(v)", square: "v * v", sqrt: "sqrt(v)", rsqrt: "1.0 / sqrt(v)" },
  ...{ reciprocal: "1.0 / v", exp: "exp(v)", log: "log_(v)", log1p: "log1p_(v)", expm1: "expm1_(v)", tanh: "tanh_(v)" },
  ...{ erf: "erf_(v)", sigmoid: "1.0 / (1.0 + exp(-v))", softplus: "max(v, E(0.0)) + log1p_(exp(-abs(v)))" },
  ...{ sin: "sin_(v)", cos: "cos_(v)", floor: "floor(v)", ceil: "ceil(v)", round: "round(v)" },
  ...{ isNaN: "flag(is_nan(v))", not: "flag(v == E(0.0))" },
};
const unaryOf = expressions({ x: "v" }, unaries, [MATH]);
const integerUnaries: Partial<Record<UnaryOp, string>> = {
  ...{ neg: "-v", abs: "abs(v)", sign: "sign(v)", square: "v * v", floor: "v", ceil: "v", round: "v" },
  ...{ isNaN: "I(0)", not: "select(I(0), I(1), v == I(0))" },
};

const pairUnary = elementProgram(
  "unary_float64",
  ["x"],
  `${PAIRS}
fn f(i: u32) -> vec2f { let v = x_at(i); return $VALUE; }`,
  { zero: "u32" },
);

const MAX_RANK = 6;
const axes = Array.from({ length: MAX_RANK }, (_, i) => i);
const binaryParameters = Object.fromEntries(
  axes.flatMap((i) => [`shape${i}`, `a${i}`, `b${i}`].map((name) => [name, "u32" as const])),
);
/** $PLACES finds `ia` and `ib`, or both operands are read at i, or one of them is a single number. */
const binary = elementProgram(
  "binary",
  ["a", "b"],
  `${MATH}
fn f(i: u32) -> $T { $READ return $VALUE; }`,
  binaryParameters,
);
const pairBinary = elementProgram(
  "binary_float64",
  ["a", "b"],
  `${PAIRS}
fn f(i: u32) -> vec2f { $READ return $VALUE; }`,
  { zero: "u32", ...binaryParameters },
);
const reads = {
  both: "let a = a_at(i); let b = b_at(i);",
  firstStays: "let a = a_first(); let b = b_at(i);",
  secondStays: "let a = a_at(i); let b = b_first();",
};
/** The last axis runs fastest. */
const places = (rank: number): string =>
  [
    "var left = i; var ia = 0u; var ib = 0u;",
    ...axes
      .slice(0, rank)
      .reverse()
      .map((k) => `{ let at = left % P.shape${k}; left /= P.shape${k}; ia += at * P.a${k}; ib += at * P.b${k}; }`),
    "let a = a_at(ia); let b = b_at(ib);",
  ].join(" ");

const binaries: Readonly<Record<BinaryOp, string>> = {
  ...{ add: "a + b", sub: "a - b", mul: "a * b", div: "a / b", pow: "power(a, b)" },
  // NaN wins: WGSL leaves open what its max and min give.
  maximum: "select(select(b, a, a > b), a + b, is_nan(a) | is_nan(b))",
  minimum: "select(select(b, a, a < b), a + b, is_nan(a) | is_nan(b))",
  ...{ equal: "$IF(a == b)", notEqual: "$IF(a != b)", less: "$IF(a < b)", lessEqual: "$IF(a <= b)" },
  ...{ greater: "$IF(a > b)", greaterEqual: "$IF(a >= b)" },
};
const integerBinaries: Partial<Record<BinaryOp, string>> = { ...binaries, maximum: "max(a, b)", minimum: "min(a, b)" };
delete integerBinaries.pow;
delete integerBinaries.div;
const withFlags = (pattern: string, T: string): string =>
  pattern.replace(/\$IF\((.*)\)/, `select(${T}(0), ${T}(1), $1)`);
const binaryOf = expressions(
  { a: "a", b: "b" },
  Object.fromEntries(Object.entries(binaries).map(([op, text]) => [op, withFlags(text, "E")])) as typeof binaries,
  [MATH],
);

const where = elementProgram(
  "where",
  ["condition", "a", "b"],
  "fn f(i: u32) -> $T { let c = condition_at(i); return select(b_at(i), a_at(i), $CHOICE); }",
);

const addScaled = elementProgram("add_scaled", ["x"], "fn f(i: u32) -> E { return y_at(i) + P.scale * x_at(i); }", {
  scale: "f32",
});

const pairAddScaled = elementProgram(
  "add_scaled_float64",
  ["x"],
  `${PAIRS}
fn f(i: u32) -> vec2f { return pair_sum(y_at(i), pair_product(x_at(i), vec2f(P.scale, P.rest))); }`,
  { zero: "u32", scale: "f32", rest: "f32" },
);

const numberType = (slot: Slot): string => (slot.dtype === "int32" ? "I" : slot.dtype === "float64" ? "vec2f" : "E");
/** c is not 0: by its bits, since NaN is not 0 either. */
const choice = (slot: Slot): string =>
  slot.dtype === "int32"
    ? "c != I(0)"
    : slot.dtype === "float64"
      ? "(bitcast<u32>(c.x) & 0x7fffffffu) != 0u"
      : "(bitcast<U>(c) & U(0x7fffffffu)) != U(0u)";

/** Throws UnsupportedKernel unless all slots are computed with as one of these types. */
export function only(kernel: string, types: readonly string[], ...slots: (Slot | null)[]): void {
  for (const slot of slots) {
    if (slot && !types.includes(arithmeticType(slot.dtype))) {
      throw new UnsupportedKernel(`${kernel} on webgpu takes ${types.join(" and ")}, not ${slot.dtype}`);
    }
  }
}

const whereOf = expression(
  { condition: "c", a: "a", b: "b" },
  "select(b, a, (bitcast<U>(c) & U(0x7fffffffu)) != U(0u))",
);
const addScaledOf = expression({ x: "x", y: "y" }, "y + k * x", [], "scale");

type Elementwise = Pick<KernelSet, "fill" | "cast" | "unary" | "binary" | "where" | "addScaled">;

export const elementwise: Elementwise = {
  fill(y, number) {
    const value = Math.fround(number);
    const rest = Number.isFinite(value) ? number - value : 0;
    const parameters = { size: y.length, value, rest, whole: Math.trunc(Number.isFinite(number) ? number : 0) };
    const constants = fills[arithmeticType(y.dtype)]!;
    runElements(fill, { operands: { y }, parameters, groups: groupsFor(y.length), constants }, fillOf);
  },

  cast(x, y) {
    const constants = casts[`${arithmeticType(x.dtype)} ${arithmeticType(y.dtype)}`]!;
    const dispatch = { operands: { x, y }, parameters: { size: y.length }, groups: groupsFor(y.length), constants };
    runElements(cast, dispatch, castOf);
  },

  unary(op, x, y) {
    if (x.dtype === "float64") return unaryOfPairs(op, x, y);
    only("unary", ["float32", "int32"], x, y);
    const VALUE = (x.dtype === "int32" ? integerUnaries : unaries)[op];
    if (!VALUE) throw new UnsupportedKernel(`${op} on webgpu takes float32`);
    const constants = { T: numberType(x), VALUE };
    const dispatch = { operands: { x, y }, parameters: { size: y.length }, groups: groupsFor(y.length), constants };
    runElements(unary, dispatch, unaryOf[op]);
  },

  binary(op, a, b, y, plan) {
    if (!(mixable(a.dtype, b.dtype) && mixable(a.dtype, y.dtype))) {
      throw new UnsupportedKernel(`binary on webgpu takes one type, not ${a.dtype}, ${b.dtype} and ${y.dtype}`);
    }
    const pairs = a.dtype === "float64";
    const pattern = (pairs ? pairBinaries : a.dtype === "int32" ? integerBinaries : binaries)[op];
    if (!pattern) throw new UnsupportedKernel(`${op} on webgpu takes float32`);
    const T = numberType(y);
    const VALUE = withFlags(pattern, T);
    const { READ, wide } = reading(plan);
    const parameters: Record<string, number> = { size: y.length, ...(pairs ? { zero: 0 } : {}) };
    for (const k of axes) {
      parameters[`shape${k}`] = plan.shape[k] ?? 1;
      parameters[`a${k}`] = plan.aStrides[k] ?? 0;
      parameters[`b${k}`] = plan.bStrides[k] ?? 0;
    }
    const constants = { T, READ, VALUE };
    const dispatch = { operands: { a, b, y }, parameters, groups: groupsFor(y.length), constants, wide };
    const stays = READ === reads.firstStays ? 1 : READ === reads.secondStays ? 2 : 0;
    runElements(pairs ? pairBinary : binary, dispatch, wide ? binaryOf[op] : null, stays);
  },

  where(condition, a, b, y) {
    const constants = { T: numberType(y), CHOICE: choice(condition) };
    const operands = { condition, a, b, y };
    const dispatch = { operands, parameters: { size: y.length }, groups: groupsFor(y.length), constants };
    runElements(where, dispatch, whereOf);
  },

  addScaled(x, y, scale) {
    if (x.dtype === "float64" && y.dtype === "float64") return addPairs(x, y, scale);
    only("addScaled", ["float32"], x, y);
    const parameters = { size: y.length, scale };
    runElements(addScaled, { operands: { x, y }, parameters, groups: groupsFor(y.length) }, addScaledOf);
  },
};

function unaryOfPairs(op: UnaryOp, x: Slot, y: Slot): void {
  const VALUE = pairUnaries[op];
  if (!VALUE) throw new UnsupportedKernel(`unary on webgpu takes float32 for ${op}, not float64`);
  const parameters = { size: y.length, zero: 0 };
  run(pairUnary, { operands: { x, y }, parameters, groups: groupsFor(y.length), constants: { VALUE } });
}

function addPairs(x: Slot, y: Slot, factor: number): void {
  const scale = Math.fround(factor);
  const parameters = { size: y.length, zero: 0, scale, rest: Number.isFinite(scale) ? factor - scale : 0 };
  run(pairAddScaled, { operands: { x, y }, parameters, groups: groupsFor(y.length) });
}

function reading({ shape, aStrides, bStrides }: BroadcastPlan): { READ: string; wide: boolean } {
  if (shape.length > MAX_RANK) {
    throw new UnsupportedKernel(`binary on webgpu broadcasts over up to ${MAX_RANK} axes that do not merge`);
  }
  if (shape.length === 1) {
    const [a, b] = [aStrides[0], bStrides[0]];
    if (a === 1 && b === 1) return { READ: reads.both, wide: true };
    if (a === 0 && b === 1) return { READ: reads.firstStays, wide: true };
    if (a === 1 && b === 0) return { READ: reads.secondStays, wide: true };
  }
  return { READ: places(shape.length), wide: false };
}
