import type { Program } from "./program.js";

/** For shaders with EXACT. */
export const exactParameters = { one: "f32", unit: "f32" } as const satisfies Program["parameters"];
export const ones = { one: 1, unit: 1 } as const;

/**
 * Sums in two parts, which together hold some 48 bits, of elements E. What rounding took from a sum is found by additions that a
 * compiler may take for (a + b) - a - b = 0; it cannot where they are products with numbers that only the call knows to be 1, and
 * which are not the same to it. Hardware does those in the additions themselves.
 */
export const EXACT = `
struct Sum { high: E, low: E }
/** a + b, whichever is larger (Knuth). */
fn plus(a: E, b: E) -> Sum {
  let now = fma(E(P.one), a, b);
  let added = fma(E(-P.unit), a, now);
  let old = fma(E(-P.one), added, now);
  return Sum(now, fma(E(P.unit), a - old, b - added));
}
fn add(s: ptr<function, Sum>, v: E) {
  let now = plus((*s).high, v);
  (*s).high = now.high;
  (*s).low += now.low;
}
fn add_sum(s: ptr<function, Sum>, v: Sum) {
  add(s, v.high);
  (*s).low += v.low;
}
/** Numbers without their lower 12 bits, whose products are exact. */
fn upper(v: E) -> E { return bitcast<E>(bitcast<U>(v) & U(0xfffff000u)); }
/** a * b (Dekker). */
fn product(a: E, b: E) -> Sum {
  let p = (a * b) * E(P.one);
  let c = upper(a);
  let d = upper(b);
  return Sum(p, ((c * d - p) + (c * (b - d) + (a - c) * d)) + (a - c) * (b - d));
}
fn times(a: Sum, b: Sum) -> Sum {
  let p = product(a.high, b.high);
  return plus(p.high, p.low + (a.high * b.low + a.low * b.high));
}
fn quotient(a: Sum, n: f32) -> Sum {
  let q = a.high / n;
  let p = product(q, E(n));
  return plus(q, (((a.high - p.high) - p.low) + a.low) / n);
}
/** The sum as one number; where that is not finite, its low part is none. */
fn rounded(s: Sum) -> E {
  return select(s.high, s.high + s.low, (bitcast<U>(s.high) & U(0x7fffffffu)) < U(0x7f800000u));
}
`;
