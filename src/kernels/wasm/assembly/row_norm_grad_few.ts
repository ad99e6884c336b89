// Backward of row normalization over rows of at most 8 elements, each with a weight of its own: one pass, float64 throughout.
// With so few sums all of dWeight may cancel by chance, and float32 products would be too coarse beside what is left.
import { loadLanes, storeLanes } from "./lib_lanes";
import { sumLanes } from "./lib_moments";

@unmanaged class FewGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; partial: f64;
  rows: f64; size: f64; eps: f64; block: f64;
}

@inline function low(v: v128): v128 { return f64x2.promote_low_f32x4(v); }
@inline function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }

/** dx (unless 0) and, for each block of rows, the sums of dy * xhat and of dy: `partial` [blocks, 2, size]. Unit u is block u. */
export function row_norm_grad_few(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<FewGrad>(args);
  if (a.size > 4) upToEight(a, lo, hi);
  else upToFour(a, lo, hi);
}

function upToEight(a: FewGrad, lo: i32, hi: i32): void { fewElements(a, lo, hi, true); }
function upToFour(a: FewGrad, lo: i32, hi: i32): void { fewElements(a, lo, hi, false); }

/** `wide`: more than 4 elements. Lanes past the end hold zeros of x, dy and weight, and add nothing. */
@inline function fewElements(a: FewGrad, lo: i32, hi: i32, wide: bool): void {
  const size = <usize>a.size, bytes = size << 2, block = <usize>a.block, rows = <usize>a.rows, eps = a.eps;
  const means = <usize>a.mean, variances = <usize>a.variance, weight = <usize>a.weight, hasDx = a.dx != 0;
  const first = wide ? 4 : size, second = wide ? size - 4 : 0, scale = f64x2.splat(1 / a.size), zero = f64x2.splat(0);
  const ones = f32x4.splat(1), u = weight ? loadLanes(weight, first) : ones;
  const v = wide && weight ? loadLanes(weight + 16, second) : ones;
  const w0 = low(u), w1 = high(u), w2 = low(v), w3 = high(v);
  for (let b = <usize>lo; b < <usize>hi; b++) {
    let row = b * block, x = <usize>a.x + row * bytes, dy = <usize>a.dy + row * bytes, dx = <usize>a.dx + row * bytes;
    let p0 = zero, p1 = zero, p2 = zero, p3 = zero, q0 = zero, q1 = zero, q2 = zero, q3 = zero;
    for (const end = min(row + block, rows); row < end; row++, x += bytes, dy += bytes, dx += bytes) {
      const mean = f64x2.splat(means ? load<f64>(means + (row << 3)) : 0);
      const r = f64x2.splat(1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps));
      const from = loadLanes(x, first), grad = loadLanes(dy, first);
      const c0 = f64x2.mul(f64x2.sub(low(from), mean), r), c1 = f64x2.mul(f64x2.sub(high(from), mean), r);
      const g0 = low(grad), g1 = high(grad), t0 = f64x2.mul(g0, w0), t1 = f64x2.mul(g1, w1);
      let sum = f64x2.add(t0, t1), product = f64x2.add(f64x2.mul(t0, c0), f64x2.mul(t1, c1));
      q0 = f64x2.add(q0, g0); q1 = f64x2.add(q1, g1);
      p0 = f64x2.add(p0, f64x2.mul(g0, c0)); p1 = f64x2.add(p1, f64x2.mul(g1, c1));
      let c2 = zero, c3 = zero, t2 = zero, t3 = zero;
      if (wide) {
        const rest = loadLanes(x + 16, second), more = loadLanes(dy + 16, second), g2 = low(more), g3 = high(more);
        c2 = f64x2.mul(f64x2.sub(low(rest), mean), r); c3 = f64x2.mul(f64x2.sub(high(rest), mean), r);
        t2 = f64x2.mul(g2, w2); t3 = f64x2.mul(g3, w3);
        sum = f64x2.add(sum, f64x2.add(t2, t3));
        product = f64x2.add(product, f64x2.add(f64x2.mul(t2, c2), f64x2.mul(t3, c3)));
        q2 = f64x2.add(q2, g2); q3 = f64x2.add(q3, g3);
        p2 = f64x2.add(p2, f64x2.mul(g2, c2)); p3 = f64x2.add(p3, f64x2.mul(g3, c3));
      }
      if (!hasDx) continue;
      const k = f64x2.mul(f64x2.splat(sumLanes(product)), scale);
      const s = means ? f64x2.mul(f64x2.splat(sumLanes(sum)), scale) : zero;
      storeLanes(dx, first, both(tangent(t0, c0, k, s, r), tangent(t1, c1, k, s, r)));
      if (wide) storeLanes(dx + 16, second, both(tangent(t2, c2, k, s, r), tangent(t3, c3, k, s, r)));
    }
    const to = <usize>a.partial + ((2 * b * size) << 3);
    storeDoubles(to, size, p0, p1, p2, p3);
    storeDoubles(to + (size << 3), size, q0, q1, q2, q3);
  }
}

/** (g - average(g) - xhat * average(g * xhat)) * rstd */
@inline function tangent(g: v128, xhat: v128, k: v128, s: v128, r: v128): v128 {
  return f64x2.mul(f64x2.sub(f64x2.sub(g, s), f64x2.mul(xhat, k)), r);
}

@inline function both(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}

/** The first n of eight doubles. */
function storeDoubles(p: usize, n: usize, a: v128, b: v128, c: v128, d: v128): void {
  storeTwo(p, n, a);
  if (n > 2) storeTwo(p + 16, n - 2, b);
  if (n > 4) storeTwo(p + 32, n - 4, c);
  if (n > 6) storeTwo(p + 48, n - 6, d);
}

@inline function storeTwo(p: usize, n: usize, v: v128): void {
  if (n > 1) v128.store(p, v);
  else v128.store64_lane(p, v, 0);
}
