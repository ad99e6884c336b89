import type { BinaryOp, UnaryOp } from "../kernel_set.js";

/**
 * Sums of pairs of float32 numbers, which stand for float64. What is `kept` a compiler cannot see through, so that it cannot
 * take (a + b) - a for b; a shader that uses this has a parameter `zero`, which is 0.
 */
export const PAIR_SUM = `
fn kept(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) ^ P.zero); }
fn is_finite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) < 0x7f800000u; }
fn pair_sum(a: vec2f, b: vec2f) -> vec2f {
  let s = kept(a.x + b.x);
  if (!is_finite(s)) { return vec2f(s, 0.0); }
  let t = kept(s - a.x);
  let rest = (kept(a.x - kept(s - t)) + kept(b.x - t)) + (a.y + b.y);
  let high = kept(s + rest);
  return vec2f(high, rest - kept(high - s));
}
/** The first 12 bits. */
fn upper(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) & 0xfffff000u); }
/** What rounding took from p = a b: halves of 12 bits have exact products, and in this order their sums are exact too. */
fn lost_of(p: f32, a: f32, b: f32) -> f32 {
  let c = vec2f(upper(a), a - upper(a));
  let d = vec2f(upper(b), b - upper(b));
  return kept(kept(kept(c.x * d.x - p) + c.x * d.y) + c.y * d.x) + c.y * d.y;
}
`;

/** Arithmetic of pairs, to 2^-44 or so. Infinite and vanishing results have no second part. */
export const PAIRS = `${PAIR_SUM}
fn joined(high: f32, low: f32) -> vec2f {
  let s = kept(high + low);
  return vec2f(s, low - kept(s - high));
}
fn pair_product(a: vec2f, b: vec2f) -> vec2f {
  let p = kept(a.x * b.x);
  if (p == 0.0 || !is_finite(p)) { return vec2f(p, 0.0); }
  return joined(p, lost_of(p, a.x, b.x) + (a.x * b.y + a.y * b.x));
}
fn pair_quotient(a: vec2f, b: vec2f) -> vec2f {
  let q = kept(a.x / b.x);
  if (q == 0.0 || !is_finite(q)) { return vec2f(q, 0.0); }
  let rest = pair_sum(a, -pair_product(vec2f(q, 0.0), b));
  return joined(q, rest.x / b.x);
}
fn pair_root(a: vec2f) -> vec2f {
  let r = kept(sqrt(a.x));
  if (r == 0.0 || !is_finite(r)) { return vec2f(r, 0.0); }
  let rest = pair_sum(a, -pair_product(vec2f(r, 0.0), vec2f(r, 0.0)));
  return joined(r, rest.x / (2.0 * r));
}
fn pair_less(a: vec2f, b: vec2f) -> bool { return a.x < b.x || (a.x == b.x && a.y < b.y); }
fn pair_flag(v: bool) -> vec2f { return vec2f(select(0.0, 1.0, v), 0.0); }
fn pair_nan(a: vec2f) -> bool { return (bitcast<u32>(a.x) & 0x7fffffffu) > 0x7f800000u; }
/** a where it is \`first\`, else b, and NaN where one is. */
fn pair_chosen(a: vec2f, b: vec2f, first: bool) -> vec2f {
  if (pair_nan(a) || pair_nan(b)) { return vec2f(a.x + b.x, 0.0); }
  return select(b, a, first);
}
`;

const ONE = "vec2f(1.0, 0.0)";
/** Those that statistics are computed with. */
export const pairUnaries: Partial<Record<UnaryOp, string>> = {
  ...{ neg: "-v", abs: "select(v, -v, v.x < 0.0)", sign: "vec2f(sign(v.x), 0.0)", square: "pair_product(v, v)" },
  ...{ sqrt: "pair_root(v)", rsqrt: `pair_quotient(${ONE}, pair_root(v))`, reciprocal: `pair_quotient(${ONE}, v)` },
  ...{ isNaN: "pair_flag(pair_nan(v))", not: "pair_flag(v.x == 0.0)" },
};

const same = "(a.x == b.x && a.y == b.y)";
export const pairBinaries: Partial<Record<BinaryOp, string>> = {
  ...{ add: "pair_sum(a, b)", sub: "pair_sum(a, -b)", mul: "pair_product(a, b)", div: "pair_quotient(a, b)" },
  ...{ maximum: "pair_chosen(a, b, pair_less(b, a))", minimum: "pair_chosen(a, b, pair_less(a, b))" },
  ...{ equal: `pair_flag(${same})`, notEqual: `pair_flag(!${same})` },
  ...{ less: "pair_flag(pair_less(a, b))", lessEqual: `pair_flag(pair_less(a, b) || ${same})` },
  ...{ greater: "pair_flag(pair_less(b, a))", greaterEqual: `pair_flag(pair_less(b, a) || ${same})` },
};
