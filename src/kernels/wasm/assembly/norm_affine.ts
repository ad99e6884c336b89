// dWeight and dBias in float64 throughout, for a normalization with few affine parameters.
import { sumLanes } from "./lib_moments";

@unmanaged class AffineSums {
  x: f64; dy: f64; mean: f64; variance: f64; single: f64; eps: f64; dWeight: f64; dBias: f64;
  planes: f64; outer: f64; affine: f64; inner: f64; groups: f64; merge: f64; scratch: f64;
}

@inline function statistic(p: usize, i: usize, single: bool): f64 {
  return single ? <f64>load<f32>(p + (i << 2)) : load<f64>(p + (i << 3));
}

@inline function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }

/** Stores the sums of dy and of dy * (x - mean) over `n` floats as two doubles at `out`. */
function runSums64(x: usize, dy: usize, n: usize, mean: f64, out: usize): void {
  const m = f64x2.splat(mean), end = x + (n << 2);
  let g0 = f64x2.splat(0), g1 = g0, d0 = g0, d1 = g0;
  for (const vectors = x + ((n & ~3) << 2); x < vectors; x += 16, dy += 16) {
    const v = v128.load(x), g = v128.load(dy);
    const a = f64x2.promote_low_f32x4(g), b = high(g);
    g0 = f64x2.add(g0, a);
    g1 = f64x2.add(g1, b);
    d0 = f64x2.add(d0, f64x2.mul(a, f64x2.sub(f64x2.promote_low_f32x4(v), m)));
    d1 = f64x2.add(d1, f64x2.mul(b, f64x2.sub(high(v), m)));
  }
  let sum = sumLanes(f64x2.add(g0, g1)), product = sumLanes(f64x2.add(d0, d1));
  for (; x < end; x += 4, dy += 4) {
    const g = <f64>load<f32>(dy);
    sum += g;
    product += g * (<f64>load<f32>(x) - mean);
  }
  store<f64>(out, sum);
  store<f64>(out, product, 8);
}

/**
 * x and dy [planes, affine, inner]; unit c is one affine parameter: dBias = sum of dy, dWeight = sum of dy * xhat over
 * planes and inner. The statistic of (plane p, c) is number floor(p / outer) * groups + floor(c / merge); a mean at 0 is 0.
 * `scratch` has a cache line for each thread.
 */
export function norm_affine_sums(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<AffineSums>(args);
  const x = <usize>a.x, dy = <usize>a.dy, mean = <usize>a.mean, variance = <usize>a.variance, single = a.single != 0;
  const planes = <usize>a.planes, outer = <usize>a.outer, affine = <usize>a.affine, inner = <usize>a.inner;
  const groups = <usize>a.groups, merge = <usize>a.merge, dWeight = <usize>a.dWeight, dBias = <usize>a.dBias, eps = a.eps;
  const place = <usize>a.scratch + (<usize>worker << 6);
  for (let c = <usize>lo; c < <usize>hi; c++) {
    let sum: f64 = 0, product: f64 = 0;
    for (let p: usize = 0; p < planes; p++) {
      const s = (p / outer) * groups + c / merge, at = ((p * affine + c) * inner) << 2;
      const mu = mean ? statistic(mean, s, single) : 0;
      const rstd = 1 / Math.sqrt(statistic(variance, s, single) + eps);
      if (inner == 1) {
        const g = <f64>load<f32>(dy + at);
        sum += g;
        product += g * (<f64>load<f32>(x + at) - mu) * rstd;
      } else {
        runSums64(x + at, dy + at, inner, mu, place);
        sum += load<f64>(place);
        product += load<f64>(place, 8) * rstd;
      }
    }
    if (dWeight) store<f32>(dWeight + (c << 2), <f32>product);
    if (dBias) store<f32>(dBias + (c << 2), <f32>sum);
  }
}
