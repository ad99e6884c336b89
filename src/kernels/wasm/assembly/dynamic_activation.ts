// y = weight * f(alpha x + shift) + bias on rows, f tanh or erf, and its gradients in one pass each.
import { erf, exp, tanh } from "./lib_math";

const TANH: i32 = 0;

// @ts-ignore: decorator
@inline function load4(p: usize, one: bool): v128 { return one ? v128.load_zero<u32>(p) : v128.load(p); }

// @ts-ignore: decorator
@inline function store4(p: usize, v: v128, one: bool): void {
  if (one) v128.store_lane<u32>(p, v, 0);
  else v128.store(p, v);
}

// @ts-ignore: decorator
@inline function curve(op: i32, z: v128): v128 { return op == TANH ? tanh(z) : erf(z); }

/** f'(z), with f(z) at hand. */
// @ts-ignore: decorator
@inline function slope(op: i32, z: v128, f: v128): v128 {
  if (op == TANH) return f32x4.sub(f32x4.splat(1), f32x4.mul(f, f));
  return f32x4.mul(exp(f32x4.neg(f32x4.mul(z, z))), f32x4.splat(1.1283791670955126));
}

@unmanaged class Forward {
  x: f64; weight: f64; bias: f64; y: f64; rows: f64; size: f64; alpha: f64; shift: f64; op: f64; unit: f64;
}

// @ts-ignore: decorator
@inline function applyStep(op: i32, x: usize, w: usize, b: usize, y: usize, a: v128, s: v128, one: bool): void {
  let v = curve(op, f32x4.add(f32x4.mul(load4(x, one), a), s));
  if (w) v = f32x4.mul(v, load4(w, one));
  if (b) v = f32x4.add(v, load4(b, one));
  store4(y, v, one);
}

// @ts-ignore: decorator
@inline function applyRow(op: i32, x: usize, w: usize, b: usize, y: usize, n: usize, a: v128, s: v128): void {
  const toW: usize = w ? 16 : 0, toB: usize = b ? 16 : 0, end = x + (n << 2);
  for (const whole = x + ((n & ~3) << 2); x < whole; x += 16, y += 16, w += toW, b += toB) {
    applyStep(op, x, w, b, y, a, s, false);
  }
  for (; x < end; x += 4, y += 4, w += toW >> 2, b += toB >> 2) applyStep(op, x, w, b, y, a, s, true);
}

function tanhRow(x: usize, w: usize, b: usize, y: usize, n: usize, a: v128, s: v128): void {
  applyRow(TANH, x, w, b, y, n, a, s);
}
function erfRow(x: usize, w: usize, b: usize, y: usize, n: usize, a: v128, s: v128): void {
  applyRow(1, x, w, b, y, n, a, s);
}

/** Unit u is the rows [u * unit, (u + 1) * unit). */
export function dynamic_activation(args: usize, lo: i32, hi: i32, worker: i32): void {
  const f = changetype<Forward>(args);
  const size = <usize>f.size, unit = <usize>f.unit, end = min(<usize>hi * unit, <usize>f.rows), op = <i32>f.op;
  const weight = <usize>f.weight, bias = <usize>f.bias, a = f32x4.splat(<f32>f.alpha), s = f32x4.splat(<f32>f.shift);
  for (let row = <usize>lo * unit; row < end; row++) {
    const at = (row * size) << 2;
    if (op == TANH) tanhRow(<usize>f.x + at, weight, bias, <usize>f.y + at, size, a, s);
    else erfRow(<usize>f.x + at, weight, bias, <usize>f.y + at, size, a, s);
  }
}

@unmanaged class Backward {
  x: f64; dy: f64; weight: f64; dx: f64; partial: f64; rows: f64; size: f64; alpha: f64; shift: f64; op: f64; unit: f64;
}

/** The four (or one) float32 of v are added to the doubles at p. */
// @ts-ignore: decorator
@inline function addWide(p: usize, v: v128, one: bool): void {
  if (one) {
    store<f64>(p, load<f64>(p) + <f64>f32x4.extract_lane(v, 0));
    return;
  }
  v128.store(p, f64x2.add(v128.load(p), f64x2.promote_low_f32x4(v)));
  v128.store(p, f64x2.add(v128.load(p, 16), f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0))), 16);
}

/**
 * h = weight * dy * f'(z). Writes dx = alpha h; adds dy * f(z) and dy to the doubles at p and p + plane, and h x and h to
 * the pairs of doubles at `ends` and ends + 16. One element leaves the other lanes 0: dy is 0 there.
 */
// @ts-ignore: decorator
@inline function gradStep(
  op: i32, x: usize, dy: usize, w: usize, dx: usize, p: usize, plane: usize, ends: usize, a: v128, s: v128, one: bool,
): void {
  const v = load4(x, one), g = load4(dy, one), z = f32x4.add(f32x4.mul(v, a), s), f = curve(op, z);
  let h = f32x4.mul(g, slope(op, z, f));
  if (w) h = f32x4.mul(h, load4(w, one));
  if (dx) store4(dx, f32x4.mul(h, a), one);
  addWide(p, f32x4.mul(g, f), one);
  addWide(p + plane, g, one);
  const hx = f32x4.mul(h, v);
  const low = f64x2.add(f64x2.promote_low_f32x4(hx), f64x2.promote_low_f32x4(i64x2.shuffle(hx, hx, 1, 0)));
  v128.store(ends, f64x2.add(v128.load(ends), low));
  const sum = f64x2.add(f64x2.promote_low_f32x4(h), f64x2.promote_low_f32x4(i64x2.shuffle(h, h, 1, 0)));
  v128.store(ends, f64x2.add(v128.load(ends, 16), sum), 16);
}

// @ts-ignore: decorator
@inline function gradRow(
  op: i32, x: usize, dy: usize, w: usize, dx: usize, p: usize, n: usize, a: v128, s: v128,
): void {
  const toW: usize = w ? 16 : 0, toDx: usize = dx ? 16 : 0, end = x + (n << 2), plane = n << 3, ends = p + 2 * plane;
  for (const whole = x + ((n & ~3) << 2); x < whole; x += 16, dy += 16, w += toW, dx += toDx, p += 32) {
    gradStep(op, x, dy, w, dx, p, plane, ends, a, s, false);
  }
  for (; x < end; x += 4, dy += 4, w += toW >> 2, dx += toDx >> 2, p += 8) {
    gradStep(op, x, dy, w, dx, p, plane, ends, a, s, true);
  }
}

function tanhGradRow(x: usize, dy: usize, w: usize, dx: usize, p: usize, n: usize, a: v128, s: v128): void {
  gradRow(TANH, x, dy, w, dx, p, n, a, s);
}
function erfGradRow(x: usize, dy: usize, w: usize, dx: usize, p: usize, n: usize, a: v128, s: v128): void {
  gradRow(1, x, dy, w, dx, p, n, a, s);
}

/**
 * Unit u is the rows [u * unit, (u + 1) * unit). Writes their dx (unless 0), and to row u of `partial` [units, 2 size + 4],
 * in float64: sums of dy * f(z) and of dy for each element, then two pairs whose sums are those of h x and of h.
 */
export function dynamic_activation_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const f = changetype<Backward>(args);
  const size = <usize>f.size, unit = <usize>f.unit, rows = <usize>f.rows, op = <i32>f.op, stride = (size + size + 4) << 3;
  const weight = <usize>f.weight, hasDx = f.dx != 0, a = f32x4.splat(<f32>f.alpha), s = f32x4.splat(<f32>f.shift);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const partial = <usize>f.partial + u * stride;
    memory.fill(partial, 0, stride);
    for (let row = u * unit; row < min((u + 1) * unit, rows); row++) {
      const at = (row * size) << 2, dx = hasDx ? <usize>f.dx + at : 0;
      if (op == TANH) tanhGradRow(<usize>f.x + at, <usize>f.dy + at, weight, dx, partial, size, a, s);
      else erfGradRow(<usize>f.x + at, <usize>f.dy + at, weight, dx, partial, size, a, s);
    }
  }
}
