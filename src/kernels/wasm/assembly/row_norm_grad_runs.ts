// Backward of row normalization where weight is constant over runs (group and instance norm channels-first), or absent.
import { runDz } from "./lib_rows";
import { runDx, runSums } from "./lib_rows_grad";

@unmanaged class RunGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; partial: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
  activation: f64; alpha: f64; bias: f64; dz: f64; scratch: f64;
}

/**
 * Backward where weight is constant over runs of `inner`. Writes dx (unless 0) and, to `partial` [rows, size / inner, 2] in
 * float64, each run's sums of dy and of dy * xhat. Unit u is the rows [u * unit, (u + 1) * unit).
 * Where y went through an activation, the gradient to what went in is written to `dz`, and takes the place of dy from
 * there on; dz may be dx, and scratch holds a cache line for each thread.
 */
export function row_norm_grad_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<RunGrad>(args);
  const size = <usize>a.size, inner = <usize>a.inner, groups = <usize>a.groups, unit = <usize>a.unit, eps = a.eps;
  const channels = size / inner, step = inner << 2, bytes = size << 2, scale = 1 / a.size;
  const weight = <usize>a.weight, means = <usize>a.mean, variances = <usize>a.variance, hasDx = a.dx != 0;
  const end = min(<usize>hi * unit, <usize>a.rows), op = <i32>a.activation, alpha = <f32>a.alpha, bias = <usize>a.bias;
  const place = op ? <usize>a.dz : <usize>a.dy, toDy = <usize>a.dy - place, sink = <usize>a.scratch + (<usize>worker << 6);
  let row = <usize>lo * unit, part = <usize>a.partial + ((row * channels) << 4);
  let x = <usize>a.x + row * bytes, dy = place + row * bytes, dx = <usize>a.dx + row * bytes;
  for (; row < end; row++) {
    const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean, rest = mean - <f64>h;
    const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps), first = ((row % groups) * channels) << 2;
    const from = weight + first;
    let sumG: f64 = 0, sumGX: f64 = 0, p = x, q = dy, w = from;
    for (let c: usize = 0; c < channels; c++, p += step, q += step, w += 4, part += 16) {
      const wc: f64 = weight ? load<f32>(w) : 1;
      if (op) {
        const shift: f32 = bias ? load<f32>(bias + first + (c << 2)) : 0;
        runDz(p, q + toDy, q, inner, mean, <f32>(rstd * wc), shift, op - 1, alpha, sink);
      }
      runSums(p, q, inner, h, part);
      const s = load<f64>(part), sx = (load<f64>(part, 8) - rest * s) * rstd;
      store<f64>(part, sx, 8);
      sumG += wc * s; sumGX += wc * sx;
    }
    if (hasDx) {
      // dx = rstd * (weight * dy - average(g) - xhat * average(g * xhat)), xhat = (x - hi) * rstd - rest * rstd
      const k = rstd * sumGX * scale, s = means ? <f32>(rstd * (sumG * scale - rest * k)) : 0;
      w = from;
      for (const stop = x + bytes; x < stop; x += step, dy += step, dx += step, w += 4) {
        runDx(x, dy, dx, inner, h, weight ? <f32>(rstd * <f64>load<f32>(w)) : <f32>rstd, <f32>(rstd * k), s);
      }
    } else {
      x += bytes; dy += bytes;
    }
  }
}

@unmanaged class RunMerge { partial: f64; dWeight: f64; dBias: f64; batch: f64; affine: f64; unit: f64; }

/** dBias and dWeight (each unless 0) from `partial` [batch, affine, 2]. Unit u is `unit` elements of the affine. */
export function row_norm_merge_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<RunMerge>(args);
  const affine = <usize>a.affine, batch = <usize>a.batch, end = min(<usize>hi * <usize>a.unit, affine);
  const partial = <usize>a.partial, dWeight = <usize>a.dWeight, dBias = <usize>a.dBias;
  for (let c = <usize>lo * <usize>a.unit; c < end; c++) {
    let sum = f64x2.splat(0), p = partial + (c << 4);
    for (let n: usize = 0; n < batch; n++, p += affine << 4) sum = f64x2.add(sum, v128.load(p));
    if (dBias) store<f32>(dBias + (c << 2), <f32>f64x2.extract_lane(sum, 0));
    if (dWeight) store<f32>(dWeight + (c << 2), <f32>f64x2.extract_lane(sum, 1));
  }
}
