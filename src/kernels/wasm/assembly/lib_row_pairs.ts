// Backward over two rows at a time, weight element by element: each vector of weight, and of the sums for dWeight and dBias,
// is loaded once for both. Three rows would not leave registers for their constants. What comes from memory does so faster
// as one stream: two rows side by side that are not in cache, and not next to each other, take twice as long as one after the other.
import { put, take } from "./lib_rows";
import { widen } from "./lib_moments";

/** Bytes of a row whose products are summed in float32 before they go to float64. */
const BLOCK: usize = 512;

/**
 * Two sums of two rows, a lane each, and what dx and the shares need, in float32:
 * dx = e * weight - ((x - hi) * k + s) with e = dy * rstd; the shares are e * ((x - hi) - lo) and dy.
 */
@unmanaged export class PairTerms {
  sum0: f64; sum1: f64; sumX0: f64; sumX1: f64;
  hi0: f32; hi1: f32; lo0: f32; lo1: f32; rstd0: f32; rstd1: f32; k0: f32; k1: f32; s0: f32; s1: f32;
  /** Whether `lo` is large enough to be seen in the shares. */
  fine: i32;
  unused: i32;
}
export const PAIR_TERMS: usize = 80;

/** |lo| * rstd below which lo may be left out of xhat: half a unit in the last place of an xhat of 1. */
const SEEN: f32 = 2.98e-8;

/** Mean and 1 / sqrt(variance + eps) of two rows whose statistics lie `step` bytes apart, a lane each. */
@inline function pairOf(p: usize, step: usize): v128 { return v128.load64_lane(p + step, v128.load64_zero(p), 1); }
@inline function high(v: v128): v128 { return i64x2.shuffle(v, v, 1, 0); }

/** Stores hi, lo and rstd of two rows; `means` may be 0. */
@inline export function statisticsOfPair(t: PairTerms, means: usize, variances: usize, step: usize, eps: f64): void {
  const one = f64x2.splat(1), variance = pairOf(variances, step);
  const rstd = f32x4.demote_f64x2_zero(f64x2.div(one, f64x2.sqrt(f64x2.add(variance, f64x2.splat(eps)))));
  const mean = means ? pairOf(means, step) : f64x2.splat(0);
  const hi = f32x4.demote_f64x2_zero(mean);
  const lo = f32x4.demote_f64x2_zero(f64x2.sub(mean, f64x2.promote_low_f32x4(hi)));
  const p = changetype<usize>(t);
  v128.store64_lane(p, hi, 0, offsetof<PairTerms>("hi0"));
  v128.store64_lane(p, lo, 0, offsetof<PairTerms>("lo0"));
  v128.store64_lane(p, rstd, 0, offsetof<PairTerms>("rstd0"));
  t.fine = <i32>v128.any_true(f32x4.gt(f32x4.mul(f32x4.abs(lo), rstd), f32x4.splat(SEEN)));
}

/** k and s of two rows from their sums of g and of g * (x - hi); `scale` is one over the number of elements. */
@inline export function gradientOfPair(
  t: PairTerms, means: usize, variances: usize, step: usize, eps: f64, scale: f64,
): void {
  const p = changetype<usize>(t), one = f64x2.splat(1), zero = f64x2.splat(0), n = f64x2.splat(scale);
  const square = f64x2.div(one, f64x2.add(pairOf(variances, step), f64x2.splat(eps))), r = f64x2.sqrt(square);
  const hi = f64x2.promote_low_f32x4(v128.load64_zero(p, offsetof<PairTerms>("hi0")));
  const rest = means ? f64x2.sub(pairOf(means, step), hi) : zero, sum = means ? v128.load(p) : zero;
  const k = f64x2.mul(f64x2.mul(f64x2.sub(v128.load(p, 16), f64x2.mul(rest, sum)), square), n);
  const s = f64x2.mul(r, f64x2.sub(f64x2.mul(sum, n), f64x2.mul(rest, k)));
  v128.store64_lane(p, f32x4.demote_f64x2_zero(f64x2.mul(k, r)), 0, offsetof<PairTerms>("k0"));
  v128.store64_lane(p, f32x4.demote_f64x2_zero(s), 0, offsetof<PairTerms>("s0"));
}

/** Sums of g and of g * (x - hi) over two rows `next` bytes apart, g = dy * weight. */
export function pairSums(x: usize, dy: usize, w: usize, next: usize, n: usize, t: PairTerms): void {
  const h = f32x4.splat(t.hi0), k = f32x4.splat(t.hi1), zero = f32x4.splat(0);
  const end = dy + (n << 2), vectors = dy + ((n & ~3) << 2), whole = dy + ((n & ~15) << 2);
  let wide0 = f64x2.splat(0), wide1 = wide0, p = x + next, q = dy + next, a = zero, b = zero, c = zero, d = zero;
  while (dy < whole) {
    a = zero; b = zero; c = zero; d = zero;
    for (const stop = min(dy + BLOCK, whole); dy < stop; dy += 64, x += 64, q += 64, p += 64, w += 64) {
      let u = v128.load(w), v = v128.load(w, 16);
      let g = f32x4.mul(v128.load(dy), u), e = f32x4.mul(v128.load(dy, 16), v);
      a = f32x4.add(a, f32x4.add(g, e));
      b = f32x4.add(b, f32x4.add(
        f32x4.mul(g, f32x4.sub(v128.load(x), h)), f32x4.mul(e, f32x4.sub(v128.load(x, 16), h)),
      ));
      g = f32x4.mul(v128.load(q), u); e = f32x4.mul(v128.load(q, 16), v);
      c = f32x4.add(c, f32x4.add(g, e));
      d = f32x4.add(d, f32x4.add(
        f32x4.mul(g, f32x4.sub(v128.load(p), k)), f32x4.mul(e, f32x4.sub(v128.load(p, 16), k)),
      ));
      u = v128.load(w, 32); v = v128.load(w, 48);
      g = f32x4.mul(v128.load(dy, 32), u); e = f32x4.mul(v128.load(dy, 48), v);
      a = f32x4.add(a, f32x4.add(g, e));
      b = f32x4.add(b, f32x4.add(
        f32x4.mul(g, f32x4.sub(v128.load(x, 32), h)), f32x4.mul(e, f32x4.sub(v128.load(x, 48), h)),
      ));
      g = f32x4.mul(v128.load(q, 32), u); e = f32x4.mul(v128.load(q, 48), v);
      c = f32x4.add(c, f32x4.add(g, e));
      d = f32x4.add(d, f32x4.add(
        f32x4.mul(g, f32x4.sub(v128.load(p, 32), k)), f32x4.mul(e, f32x4.sub(v128.load(p, 48), k)),
      ));
    }
    wide0 = f64x2.add(wide0, lanesOfTwo(a, c)); wide1 = f64x2.add(wide1, lanesOfTwo(b, d));
  }
  a = zero; b = zero; c = zero; d = zero;
  for (; dy < vectors; dy += 16, x += 16, q += 16, p += 16, w += 16) {
    const u = v128.load(w), g = f32x4.mul(v128.load(dy), u), e = f32x4.mul(v128.load(q), u);
    a = f32x4.add(a, g); b = f32x4.add(b, f32x4.mul(g, f32x4.sub(v128.load(x), h)));
    c = f32x4.add(c, e); d = f32x4.add(d, f32x4.mul(e, f32x4.sub(v128.load(p), k)));
  }
  for (; dy < end; dy += 4, x += 4, q += 4, p += 4, w += 4) {
    const u = v128.load32_zero(w), g = f32x4.mul(v128.load32_zero(dy), u), e = f32x4.mul(v128.load32_zero(q), u);
    a = f32x4.add(a, g); b = f32x4.add(b, f32x4.mul(g, f32x4.sub(v128.load32_zero(x), h)));
    c = f32x4.add(c, e); d = f32x4.add(d, f32x4.mul(e, f32x4.sub(v128.load32_zero(p), k)));
  }
  v128.store(changetype<usize>(t), f64x2.add(wide0, lanesOfTwo(a, c)));
  v128.store(changetype<usize>(t), f64x2.add(wide1, lanesOfTwo(b, d)), 16);
}

/** The sum of a's lanes and the sum of b's, as doubles. */
@inline function lanesOfTwo(a: v128, b: v128): v128 {
  const u = widen(a), v = widen(b);
  return f64x2.add(i64x2.shuffle(u, v, 0, 2), i64x2.shuffle(u, v, 1, 3));
}

/** dx of two rows; adds their e * xhat / rstd and dy to the n floats at `dWeight` and at `dBias`. dx may lie on dy. */
export function pairDx(
  x: usize, dy: usize, w: usize, dx: usize, next: usize, n: usize, t: PairTerms, dWeight: usize, dBias: usize,
): void {
  pairRows(x, dy, w, dx, next, n, t, dWeight, dBias, false);
}

export function pairDxFine(
  x: usize, dy: usize, w: usize, dx: usize, next: usize, n: usize, t: PairTerms, dWeight: usize, dBias: usize,
): void {
  pairRows(x, dy, w, dx, next, n, t, dWeight, dBias, true);
}

@inline function pairRows(
  x: usize, dy: usize, w: usize, dx: usize, next: usize, n: usize, t: PairTerms, dWeight: usize, dBias: usize,
  fine: bool,
): void {
  const h = f32x4.splat(t.hi0), r = f32x4.splat(t.rstd0), k = f32x4.splat(t.k0), s = f32x4.splat(t.s0);
  const h1 = f32x4.splat(t.hi1), r1 = f32x4.splat(t.rstd1), k1 = f32x4.splat(t.k1), s1 = f32x4.splat(t.s1);
  const l = f32x4.splat(t.lo0), l1 = f32x4.splat(t.lo1), end = x + (n << 2);
  let x1 = x + next, dy1 = dy + next, dx1 = dx + next;
  const whole = x + ((n & ~7) << 2), vectors = x + ((n & ~3) << 2);
  for (; x < whole; x += 32, dy += 32, dx += 32, x1 += 32, dy1 += 32, dx1 += 32, w += 32, dWeight += 32, dBias += 32) {
    pairStep(x, dy, dx, x1, dy1, dx1, w, dWeight, dBias, 0, h, r, k, s, l, h1, r1, k1, s1, l1, fine, false);
    pairStep(x, dy, dx, x1, dy1, dx1, w, dWeight, dBias, 1, h, r, k, s, l, h1, r1, k1, s1, l1, fine, false);
  }
  for (; x < vectors; x += 16, dy += 16, dx += 16, x1 += 16, dy1 += 16, dx1 += 16, w += 16, dWeight += 16, dBias += 16) {
    pairStep(x, dy, dx, x1, dy1, dx1, w, dWeight, dBias, 0, h, r, k, s, l, h1, r1, k1, s1, l1, fine, false);
  }
  for (; x < end; x += 4, dy += 4, dx += 4, x1 += 4, dy1 += 4, dx1 += 4, w += 4, dWeight += 4, dBias += 4) {
    pairStep(x, dy, dx, x1, dy1, dx1, w, dWeight, dBias, 0, h, r, k, s, l, h1, r1, k1, s1, l1, fine, true);
  }
}

@inline function pairStep(
  x: usize, dy: usize, dx: usize, x1: usize, dy1: usize, dx1: usize, w: usize, dWeight: usize, dBias: usize, i: i32,
  h: v128, r: v128, k: v128, s: v128, l: v128, h1: v128, r1: v128, k1: v128, s1: v128, l1: v128, fine: bool, one: bool,
): void {
  const u = take(w, i, one), g = take(dy, i, one), e = f32x4.mul(g, r), c = f32x4.sub(take(x, i, one), h);
  put(dx, f32x4.sub(f32x4.mul(e, u), f32x4.add(f32x4.mul(c, k), s)), i, one);
  const m = f32x4.mul(e, fine ? f32x4.sub(c, l) : c);
  const g1 = take(dy1, i, one), e1 = f32x4.mul(g1, r1), c1 = f32x4.sub(take(x1, i, one), h1);
  put(dx1, f32x4.sub(f32x4.mul(e1, u), f32x4.add(f32x4.mul(c1, k1), s1)), i, one);
  put(dBias, f32x4.add(take(dBias, i, one), f32x4.add(g, g1)), i, one);
  put(dWeight, f32x4.add(take(dWeight, i, one), f32x4.add(m, f32x4.mul(e1, fine ? f32x4.sub(c1, l1) : c1))), i, one);
}
