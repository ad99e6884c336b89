// Passes over one row, or over a run of it with one weight: y, and what goes in and out of an activation.
//
// Float32 work sees a float64 mean as hi + lo and centres by (x - hi) - lo: exact where the mean is far larger than the spread.
//
// Flags such as `centred` are literals at every call and fold away, but only if each combination has a function of its own:
// in two branches of one function the optimizer sees equal code, folds it, and tests the flag in the innermost loop.
import { activate, activateGrad } from "./lib_activation";

/**
 * Vector number i from address p, or one float in lane 0 and zeros: the end of a run then goes through the same arithmetic
 * as its middle. The offset is spelt out because it must be a literal to become part of the instruction.
 */
@inline export function take(p: usize, i: i32, one: bool): v128 {
  return one ? v128.load32_zero(p)
    : i == 7 ? v128.load(p, 112) : i == 6 ? v128.load(p, 96) : i == 5 ? v128.load(p, 80) : i == 4 ? v128.load(p, 64)
    : i == 3 ? v128.load(p, 48) : i == 2 ? v128.load(p, 32) : i == 1 ? v128.load(p, 16) : v128.load(p);
}

@inline export function put(p: usize, v: v128, i: i32, one: bool): void {
  if (one) v128.store_lane<f32>(p, v, 0);
  else if (i == 7) v128.store(p, v, 112);
  else if (i == 6) v128.store(p, v, 96);
  else if (i == 5) v128.store(p, v, 80);
  else if (i == 4) v128.store(p, v, 64);
  else if (i == 3) v128.store(p, v, 48);
  else if (i == 2) v128.store(p, v, 32);
  else if (i == 1) v128.store(p, v, 16);
  else v128.store(p, v);
}

/** How a row is centred: not at all; about hi, where lo is too small to be seen in xhat; about hi and lo. */
export const NOT: i32 = 0, NEARLY: i32 = 1, FULLY: i32 = 2;

/** |lo| * scale up to which lo is left out: half a unit in the last place of a value of 1. */
export const SEEN: f32 = 2.98e-8;

@inline function loOf(mean: f64): f32 { return <f32>(mean - <f64><f32>mean); }

@inline export function centre(x: v128, hi: v128, lo: v128, how: i32): v128 {
  return how == FULLY ? f32x4.sub(f32x4.sub(x, hi), lo) : how == NEARLY ? f32x4.sub(x, hi) : x;
}

// Forward.

export function runCentred(
  x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32, ahead: usize, sink: usize,
): void {
  if (abs(loOf(mean) * scale) > SEEN) runFully(x, y, n, mean, scale, shift, ahead, sink);
  else applyRun(x, y, n, mean, scale, shift, ahead, sink, NEARLY);
}

function runFully(
  x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32, ahead: usize, sink: usize,
): void {
  applyRun(x, y, n, mean, scale, shift, ahead, sink, FULLY);
}

export function runPlain(x: usize, y: usize, n: usize, scale: f32, ahead: usize, sink: usize): void {
  applyRun(x, y, n, 0, scale, 0, ahead, sink, NOT);
}

/**
 * y = (x - mean) * scale + shift over a run, or x * scale. Each line `ahead` bytes on is loaded once, for the next row;
 * what was loaded ends at `sink`, so that the loads are not dropped.
 */
@inline function applyRun(
  x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32, ahead: usize, sink: usize, how: i32,
): void {
  const hi = f32x4.splat(<f32>mean), lo = f32x4.splat(<f32>(mean - <f64><f32>mean));
  const k = f32x4.splat(scale), s = f32x4.splat(shift), end = x + (n << 2);
  let seen = k;
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64) {
    seen = v128.or(seen, v128.load(x + ahead));
    runStep(x, y, 0, hi, lo, k, s, how, false);
    runStep(x, y, 1, hi, lo, k, s, how, false);
    runStep(x, y, 2, hi, lo, k, s, how, false);
    runStep(x, y, 3, hi, lo, k, s, how, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16) {
    runStep(x, y, 0, hi, lo, k, s, how, false);
  }
  for (; x < end; x += 4, y += 4) runStep(x, y, 0, hi, lo, k, s, how, true);
  v128.store(sink, seen);
}

@inline function runStep(
  x: usize, y: usize, i: i32, hi: v128, lo: v128, k: v128, s: v128, how: i32, one: bool,
): void {
  const v = f32x4.mul(centre(take(x, i, one), hi, lo, how), k);
  put(y, how != NOT ? f32x4.add(v, s) : v, i, one);
}

/** y = (x - mean) * rstd * weight + bias; without a mean x * rstd * weight, unless there is a bias: then mean is 0. */
@inline export function elements(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, centred: bool, hasBias: bool, ahead: usize,
  sink: usize,
): void {
  const fully = abs(loOf(mean)) * rstd > SEEN;
  if (hasBias && fully) elementsWithBiasFully(x, w, b, y, n, mean, rstd, ahead, sink);
  else if (hasBias) elementsWithBias(x, w, b, y, n, mean, rstd, ahead, sink);
  else if (centred) elementsCentred(x, w, y, n, mean, rstd, ahead, sink);
  else elementsPlain(x, w, y, n, rstd, ahead, sink);
}

function elementsWithBias(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, ahead: usize, sink: usize,
): void {
  applyElements(x, w, b, y, n, mean, rstd, ahead, sink, NEARLY, true);
}

function elementsWithBiasFully(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, ahead: usize, sink: usize,
): void {
  applyElements(x, w, b, y, n, mean, rstd, ahead, sink, FULLY, true);
}

function elementsCentred(
  x: usize, w: usize, y: usize, n: usize, mean: f64, rstd: f32, ahead: usize, sink: usize,
): void {
  applyElements(x, w, w, y, n, mean, rstd, ahead, sink, FULLY, false);
}

function elementsPlain(x: usize, w: usize, y: usize, n: usize, rstd: f32, ahead: usize, sink: usize): void {
  applyElements(x, w, w, y, n, 0, rstd, ahead, sink, NOT, false);
}

/** y = (x - mean) * rstd * weight + bias, weight and bias element by element; `ahead` and `sink` as in applyRun. */
@inline function applyElements(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, ahead: usize, sink: usize,
  how: i32, hasBias: bool,
): void {
  const hi = f32x4.splat(<f32>mean), lo = f32x4.splat(<f32>(mean - <f64><f32>mean)), r = f32x4.splat(rstd);
  const end = x + (n << 2);
  let seen = r;
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64, w += 64, b += 64) {
    seen = v128.or(seen, v128.load(x + ahead));
    elementStep(x, w, b, y, 0, hi, lo, r, how, hasBias, false);
    elementStep(x, w, b, y, 1, hi, lo, r, how, hasBias, false);
    elementStep(x, w, b, y, 2, hi, lo, r, how, hasBias, false);
    elementStep(x, w, b, y, 3, hi, lo, r, how, hasBias, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16, w += 16, b += 16) {
    elementStep(x, w, b, y, 0, hi, lo, r, how, hasBias, false);
  }
  for (; x < end; x += 4, y += 4, w += 4, b += 4) elementStep(x, w, b, y, 0, hi, lo, r, how, hasBias, true);
  v128.store(sink, seen);
}

@inline function elementStep(
  x: usize, w: usize, b: usize, y: usize, i: i32, hi: v128, lo: v128, r: v128, how: i32, hasBias: bool, one: bool,
): void {
  const v = f32x4.mul(f32x4.mul(centre(take(x, i, one), hi, lo, how), r), take(w, i, one));
  put(y, hasBias ? f32x4.add(v, take(b, i, one)) : v, i, one);
}

/** sum = x + residual. */
export function addRows(x: usize, residual: usize, sum: usize, n: usize): void {
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, residual += 64, sum += 64) {
    v128.store(sum, f32x4.add(v128.load(x), v128.load(residual)));
    v128.store(sum, f32x4.add(v128.load(x, 16), v128.load(residual, 16)), 16);
    v128.store(sum, f32x4.add(v128.load(x, 32), v128.load(residual, 32)), 32);
    v128.store(sum, f32x4.add(v128.load(x, 48), v128.load(residual, 48)), 48);
  }
  for (; x < end; x += 4, residual += 4, sum += 4) store<f32>(sum, load<f32>(x) + load<f32>(residual));
}

// Through an activation f, in pieces small enough for the first-level cache: y = f(z), z as above; and in backward
// dz = dy * f'(z), z to the same bits as in forward. It lies where dz comes to lie, which may not be x or dy.

const PIECE: usize = 1024;

export function elementsActivate(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, centred: bool, hasBias: bool, op: i32,
  alpha: f32, ahead: usize, sink: usize,
): void {
  for (let i: usize = 0; i < n; i += PIECE) {
    const o = i << 2, m = min(PIECE, n - i);
    elements(x + o, w + o, b + o, y + o, m, mean, rstd, centred, hasBias, ahead, sink);
    activate(op, y + o, y + o, m << 2, alpha);
  }
}

export function runActivate(
  x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32, op: i32, alpha: f32, ahead: usize, sink: usize,
): void {
  for (let i: usize = 0; i < n; i += PIECE) {
    const o = i << 2, m = min(PIECE, n - i);
    runCentred(x + o, y + o, m, mean, scale, shift, ahead, sink);
    activate(op, y + o, y + o, m << 2, alpha);
  }
}

export function elementsDz(
  x: usize, w: usize, b: usize, dy: usize, dz: usize, n: usize, mean: f64, rstd: f32, centred: bool, hasBias: bool,
  op: i32, alpha: f32, sink: usize,
): void {
  for (let i: usize = 0; i < n; i += PIECE) {
    const o = i << 2, m = min(PIECE, n - i);
    elements(x + o, w + o, b + o, dz + o, m, mean, rstd, centred, hasBias, 0, sink);
    activateGrad(op, dz + o, dy + o, dz + o, m << 2, alpha);
  }
}

export function runDz(
  x: usize, dy: usize, dz: usize, n: usize, mean: f64, scale: f32, shift: f32, op: i32, alpha: f32, sink: usize,
): void {
  for (let i: usize = 0; i < n; i += PIECE) {
    const o = i << 2, m = min(PIECE, n - i);
    runCentred(x + o, dz + o, m, mean, scale, shift, 0, sink);
    activateGrad(op, dz + o, dy + o, dz + o, m << 2, alpha);
  }
}
