// Backward over one row, or over a run of it with one weight: its sums, dx, and shares of dWeight and dBias.
//
// Flags are literals at every call and each combination has a function of its own, as in lib_rows.ts.
import { centre, FULLY, NEARLY, NOT, put, take } from "./lib_rows";
import { widen } from "./lib_moments";

/** Bytes whose products are summed in float32 before they go to float64. */
const BLOCK: usize = 512;

export function runSums(x: usize, dy: usize, n: usize, hi: f32, out: usize): void {
  productSums(x, dy, dy, n, hi, out, false, true);
}

export function elementSums(x: usize, dy: usize, w: usize, n: usize, hi: f32, out: usize): void {
  productSums(x, dy, w, n, hi, out, true, true);
}

export function elementSumsPlain(x: usize, dy: usize, w: usize, n: usize, out: usize): void {
  productSums(x, dy, w, n, 0, out, true, false);
}

/**
 * Stores at `out`, as two doubles, the sums of g and of g * (x - hi) over a run; g = dy, times w if there is a weight.
 * Not centred: 0 and the sum of g * x.
 */
@inline function productSums(
  x: usize, dy: usize, w: usize, n: usize, hi: f32, out: usize, hasWeight: bool, centred: bool,
): void {
  const end = dy + (n << 2), vectors = dy + ((n & ~3) << 2), whole = dy + ((n & ~15) << 2), h = f32x4.splat(hi);
  let w1 = f64x2.splat(0), w2 = w1, a = f32x4.splat(0), b = a;
  while (dy < whole) {
    a = f32x4.splat(0); b = a;
    for (const stop = min(dy + BLOCK, whole); dy < stop; dy += 64, x += 64, w += 64) {
      const g0 = product(dy, w, 0, hasWeight, false), g1 = product(dy, w, 1, hasWeight, false);
      const d0 = apart(x, h, 0, centred, false), d1 = apart(x, h, 1, centred, false);
      const t = f32x4.add(g0, g1), u = f32x4.add(f32x4.mul(g0, d0), f32x4.mul(g1, d1));
      const g2 = product(dy, w, 2, hasWeight, false), g3 = product(dy, w, 3, hasWeight, false);
      const d2 = apart(x, h, 2, centred, false), d3 = apart(x, h, 3, centred, false);
      if (centred) a = f32x4.add(a, f32x4.add(t, f32x4.add(g2, g3)));
      b = f32x4.add(b, f32x4.add(u, f32x4.add(f32x4.mul(g2, d2), f32x4.mul(g3, d3))));
    }
    w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  }
  a = f32x4.splat(0); b = a;
  for (; dy < vectors; dy += 16, x += 16, w += 16) {
    const g = product(dy, w, 0, hasWeight, false);
    if (centred) a = f32x4.add(a, g);
    b = f32x4.add(b, f32x4.mul(g, apart(x, h, 0, centred, false)));
  }
  for (; dy < end; dy += 4, x += 4, w += 4) {
    const g = product(dy, w, 0, hasWeight, true);
    if (centred) a = f32x4.add(a, g);
    b = f32x4.add(b, f32x4.mul(g, apart(x, h, 0, centred, true)));
  }
  w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  v128.store(out, f64x2.add(i64x2.shuffle(w1, w2, 0, 2), i64x2.shuffle(w1, w2, 1, 3)));
}

@inline function product(dy: usize, w: usize, i: i32, hasWeight: bool, one: bool): v128 {
  return hasWeight ? f32x4.mul(take(dy, i, one), take(w, i, one)) : take(dy, i, one);
}

@inline function apart(x: usize, hi: v128, i: i32, centred: bool, one: bool): v128 {
  return centred ? f32x4.sub(take(x, i, one), hi) : take(x, i, one);
}

/** dx = dy * scale - ((x - hi) * k + s) over a run. */
export function runDx(
  x: usize, dy: usize, dx: usize, n: usize, hi: f32, scale: f32, k: f32, s: f32,
): void {
  const h = f32x4.splat(hi), p = f32x4.splat(scale), q = f32x4.splat(k), t = f32x4.splat(s);
  const end = x + (n << 2), toDy = dy - x, toDx = dx - x;
  for (const whole = x + ((n & ~31) << 2); x < whole; x += 128) {
    dy = x + toDy; dx = x + toDx;
    runDxStep(x, dy, dx, 0, h, p, q, t, false);
    runDxStep(x, dy, dx, 1, h, p, q, t, false);
    runDxStep(x, dy, dx, 2, h, p, q, t, false);
    runDxStep(x, dy, dx, 3, h, p, q, t, false);
    runDxStep(x, dy, dx, 4, h, p, q, t, false);
    runDxStep(x, dy, dx, 5, h, p, q, t, false);
    runDxStep(x, dy, dx, 6, h, p, q, t, false);
    runDxStep(x, dy, dx, 7, h, p, q, t, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16) {
    runDxStep(x, x + toDy, x + toDx, 0, h, p, q, t, false);
  }
  for (; x < end; x += 4) runDxStep(x, x + toDy, x + toDx, 0, h, p, q, t, true);
}

@inline function runDxStep(
  x: usize, dy: usize, dx: usize, i: i32, hi: v128, p: v128, q: v128, s: v128, one: bool,
): void {
  const t = f32x4.add(f32x4.mul(f32x4.sub(take(x, i, one), hi), q), s);
  put(dx, f32x4.sub(f32x4.mul(take(dy, i, one), p), t), i, one);
}

/** dx = dy * rstd * w - ((x - hi) * k + s), w element by element. */
export function elementDxRow(
  x: usize, dy: usize, w: usize, dx: usize, n: usize, hi: f32, rstd: f32, k: f32, s: f32,
): void {
  const h = f32x4.splat(hi), r = f32x4.splat(rstd), q = f32x4.splat(k), t = f32x4.splat(s), end = x + (n << 2);
  const toDy = dy - x, toW = w - x, toDx = dx - x;
  for (const whole = x + ((n & ~31) << 2); x < whole; x += 128) {
    dy = x + toDy; dx = x + toDx; w = x + toW;
    elementDxStep(x, dy, w, dx, 0, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 1, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 2, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 3, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 4, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 5, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 6, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 7, h, r, q, t, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16) {
    elementDxStep(x, x + toDy, x + toW, x + toDx, 0, h, r, q, t, false);
  }
  for (; x < end; x += 4) elementDxStep(x, x + toDy, x + toW, x + toDx, 0, h, r, q, t, true);
}

@inline function elementDxStep(
  x: usize, dy: usize, w: usize, dx: usize, i: i32, hi: v128, r: v128, k: v128, s: v128, one: bool,
): void {
  const t = f32x4.add(f32x4.mul(f32x4.sub(take(x, i, one), hi), k), s);
  put(dx, f32x4.sub(f32x4.mul(f32x4.mul(take(dy, i, one), r), take(w, i, one)), t), i, one);
}

export function addShares(
  x: usize, dy: usize, next: usize, count: usize, terms: usize, stride: usize, dWeight: usize, dBias: usize, n: usize,
): void {
  sharesOfRows(x, dy, next, count, terms, stride, dWeight, dBias, n, NEARLY);
}

export function addSharesFine(
  x: usize, dy: usize, next: usize, count: usize, terms: usize, stride: usize, dWeight: usize, dBias: usize, n: usize,
): void {
  sharesOfRows(x, dy, next, count, terms, stride, dWeight, dBias, n, FULLY);
}

export function addSharesPlain(
  x: usize, dy: usize, next: usize, count: usize, terms: usize, stride: usize, dWeight: usize, dBias: usize, n: usize,
): void {
  sharesOfRows(x, dy, next, count, terms, stride, dWeight, dBias, n, NOT);
}

/** Adds dy * xhat and dy of `count` rows, summed in registers, to the n floats at `dWeight` and at `dBias`. */
@inline function sharesOfRows(
  x: usize, dy: usize, next: usize, count: usize, terms: usize, stride: usize, dWeight: usize, dBias: usize, n: usize,
  how: i32,
): void {
  const stop = terms + count * stride, zero = f32x4.splat(0), end = x + (n << 2), toDy = dy - x;
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, dWeight += 64, dBias += 64) {
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero, p = x;
    for (let t = terms; t < stop; t += stride, p += next) {
      const q = p + toDy;
      const hi = v128.load32_splat(t), lo = how == FULLY ? v128.load32_splat(t, 4) : zero, r = v128.load32_splat(t, 8);
      let g = v128.load(q);
      a0 = f32x4.add(a0, share(g, v128.load(p), hi, lo, r, how));
      b0 = f32x4.add(b0, g);
      g = v128.load(q, 16);
      a1 = f32x4.add(a1, share(g, v128.load(p, 16), hi, lo, r, how));
      b1 = f32x4.add(b1, g);
      if (p == 0) break; // never: keeps the loads of the second half from being moved up, which would spill a sum
      g = v128.load(q, 32);
      a2 = f32x4.add(a2, share(g, v128.load(p, 32), hi, lo, r, how));
      b2 = f32x4.add(b2, g);
      g = v128.load(q, 48);
      a3 = f32x4.add(a3, share(g, v128.load(p, 48), hi, lo, r, how));
      b3 = f32x4.add(b3, g);
    }
    addTo(dWeight, a0, 0); addTo(dWeight, a1, 1); addTo(dWeight, a2, 2); addTo(dWeight, a3, 3);
    addTo(dBias, b0, 0); addTo(dBias, b1, 1); addTo(dBias, b2, 2); addTo(dBias, b3, 3);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, dWeight += 16, dBias += 16) {
    let a = zero, b = zero, p = x;
    for (let t = terms; t < stop; t += stride, p += next) {
      const hi = v128.load32_splat(t), lo = v128.load32_splat(t, 4), r = v128.load32_splat(t, 8), g = v128.load(p + toDy);
      a = f32x4.add(a, share(g, v128.load(p), hi, lo, r, how));
      b = f32x4.add(b, g);
    }
    addTo(dWeight, a, 0); addTo(dBias, b, 0);
  }
  for (; x < end; x += 4, dWeight += 4, dBias += 4) {
    let a: f32 = 0, b: f32 = 0, p = x;
    for (let t = terms; t < stop; t += stride, p += next) {
      const v = load<f32>(p), g = load<f32>(p + toDy);
      a += g * ((how != NOT ? v - load<f32>(t) - load<f32>(t, 4) : v) * load<f32>(t, 8));
      b += g;
    }
    store<f32>(dWeight, load<f32>(dWeight) + a);
    store<f32>(dBias, load<f32>(dBias) + b);
  }
}

@inline function share(g: v128, x: v128, hi: v128, lo: v128, r: v128, how: i32): v128 {
  return f32x4.mul(g, f32x4.mul(centre(x, hi, lo, how), r));
}

@inline function addTo(p: usize, v: v128, i: i32): void {
  put(p, f32x4.add(take(p, i, false), v), i, false);
}

/** Adds n floats at p to the doubles at `wide`, and sets them to 0. */
export function settle(p: usize, wide: usize, n: usize): void {
  const end = p + (n << 2), zero = f32x4.splat(0);
  for (const vectors = p + ((n & ~3) << 2); p < vectors; p += 16, wide += 32) {
    const v = v128.load(p);
    v128.store(p, zero);
    v128.store(wide, f64x2.add(v128.load(wide), f64x2.promote_low_f32x4(v)));
    v128.store(wide, f64x2.add(v128.load(wide, 16), f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0))), 16);
  }
  for (; p < end; p += 4, wide += 8) {
    store<f64>(wide, load<f64>(wide) + <f64>load<f32>(p));
    store<f32>(p, 0);
  }
}
