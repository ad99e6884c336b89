// Sums and extremes of contiguous float32 runs.

import { sumLanes, tree8, widen } from "./lib_moments";

/** Bytes summed in float32 before the sum goes to float64: each lane sees 8 additions in a row, of trees of eight. */
const BLOCK: usize = 1024;

// @ts-ignore: decorator
@inline function lift(absolute: bool, v: v128): v128 { return absolute ? f32x4.abs(v) : v; }

// @ts-ignore: decorator
@inline function sum(absolute: bool, p: usize, n: usize): f64 {
  const whole = p + ((n & ~31) << 2), vectors = p + ((n & ~3) << 2), end = p + (n << 2);
  let wide = f64x2.splat(0);
  while (p < whole) {
    let a = f32x4.splat(0);
    for (const stop = min(whole, p + BLOCK); p < stop; p += 128) {
      a = f32x4.add(a, tree8(
        lift(absolute, v128.load(p)), lift(absolute, v128.load(p, 16)),
        lift(absolute, v128.load(p, 32)), lift(absolute, v128.load(p, 48)),
        lift(absolute, v128.load(p, 64)), lift(absolute, v128.load(p, 80)),
        lift(absolute, v128.load(p, 96)), lift(absolute, v128.load(p, 112)),
      ));
    }
    wide = f64x2.add(wide, widen(a));
  }
  for (; p < vectors; p += 16) wide = f64x2.add(wide, widen(lift(absolute, v128.load(p))));
  let total = sumLanes(wide);
  for (; p < end; p += 4) {
    const v = load<f32>(p);
    total += <f64>(absolute ? abs(v) : v);
  }
  return total;
}

export function sumRun(p: usize, n: usize): f64 { return sum(false, p, n); }

export function sumAbsRun(p: usize, n: usize): f64 { return sum(true, p, n); }

/** Products in float64: in float32 a partial product may overflow or vanish where the whole does not. */
export function prodRun(p: usize, n: usize): f64 {
  const whole = p + ((n & ~7) << 2), end = p + (n << 2);
  let a = f64x2.splat(1), b = a, c = a, d = a;
  for (; p < whole; p += 32) {
    a = f64x2.mul(a, f64x2.promote_low_f32x4(v128.load_zero<u64>(p)));
    b = f64x2.mul(b, f64x2.promote_low_f32x4(v128.load_zero<u64>(p, 8)));
    c = f64x2.mul(c, f64x2.promote_low_f32x4(v128.load_zero<u64>(p, 16)));
    d = f64x2.mul(d, f64x2.promote_low_f32x4(v128.load_zero<u64>(p, 24)));
  }
  a = f64x2.mul(f64x2.mul(a, b), f64x2.mul(c, d));
  let product = f64x2.extract_lane(a, 0) * f64x2.extract_lane(a, 1);
  for (; p < end; p += 4) product *= <f64>load<f32>(p);
  return product;
}

/**
 * The larger of a and b, lane by lane; NaN if either is. f32x4.max would do, at three times the instructions on x86:
 * pmax keeps a NaN in a, and the mask (all bits set is a NaN) adds that of b.
 */
// @ts-ignore: decorator
@inline export function larger(a: v128, b: v128): v128 { return v128.or(f32x4.pmax(a, b), f32x4.ne(b, b)); }

// @ts-ignore: decorator
@inline export function smaller(a: v128, b: v128): v128 { return v128.or(f32x4.pmin(a, b), f32x4.ne(b, b)); }

// @ts-ignore: decorator
@inline function extreme(least: bool, a: v128, b: v128): v128 { return least ? smaller(a, b) : larger(a, b); }

// @ts-ignore: decorator
@inline function extremeRun(least: bool, p: usize, n: usize): f32 {
  const end = p + (n << 2);
  let a = f32x4.splat(least ? Infinity : -Infinity);
  if (n >= 16) {
    let b = a, c = a, d = a;
    for (; p + 64 <= end; p += 64) {
      a = extreme(least, a, v128.load(p)); b = extreme(least, b, v128.load(p, 16));
      c = extreme(least, c, v128.load(p, 32)); d = extreme(least, d, v128.load(p, 48));
    }
    a = extreme(least, extreme(least, a, b), extreme(least, c, d));
  }
  for (; p + 16 <= end; p += 16) a = extreme(least, a, v128.load(p));
  // What is left is taken with values already seen, which change nothing.
  if (n >= 4) a = extreme(least, a, v128.load(end - 16));
  else for (; p < end; p += 4) a = extreme(least, a, v128.load_splat<u32>(p));
  a = extreme(least, a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  a = extreme(least, a, v128.shuffle<f32>(a, a, 1, 0, 3, 2));
  return f32x4.extract_lane(a, 0);
}

/** Where `value` (any NaN, if it is one) first stands in the n floats at p; n if it does not. */
export function find(value: f32, p: usize, n: usize): usize {
  const wide = f32x4.splat(value), any = f32x4.ne(wide, wide);
  let i: usize = 0;
  for (; i + 16 <= n; i += 16) {
    const q = p + (i << 2);
    const a = v128.load(q), b = v128.load(q, 16), c = v128.load(q, 32), d = v128.load(q, 48);
    const equal = v128.or(v128.or(f32x4.eq(a, wide), f32x4.eq(b, wide)), v128.or(f32x4.eq(c, wide), f32x4.eq(d, wide)));
    const nan = v128.or(v128.or(f32x4.ne(a, a), f32x4.ne(b, b)), v128.or(f32x4.ne(c, c), f32x4.ne(d, d)));
    if (v128.any_true(v128.or(equal, v128.and(nan, any)))) break;
  }
  for (; i < n; i++) {
    const v = load<f32>(p + (i << 2));
    if (v == value || (value != value && v != v)) return i;
  }
  return n;
}

/** -Infinity of nothing; NaN if there is one. */
export function maxRun(p: usize, n: usize): f32 { return extremeRun(false, p, n); }

/** Infinity of nothing; NaN if there is one. */
export function minRun(p: usize, n: usize): f32 { return extremeRun(true, p, n); }
