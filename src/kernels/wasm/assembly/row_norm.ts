// Normalization over the rows of [rows, size]: layer, group and instance norm channels-first, and root mean square.
//
// A row's statistics are float64. The float32 work sees the mean as hi + lo and centres by (x - hi) - lo: exact where the mean
// is far larger than the spread. Each row is read from memory once: the second pass over it finds it in cache.
//
// Flags such as `centred` are literals at every call and fold away, but only if each combination has a function of its own:
// in two branches of one function the optimizer sees equal code, folds it, and tests the flag in the innermost loop.
import { Moments, addRun, sumLanes, sumSquares, widen } from "./lib_moments";

/** Bytes whose products are summed in float32 before they go to float64. */
const BLOCK: usize = 512;

/**
 * Vector number i from address p, or one float in lane 0 and zeros: the end of a run then goes through the same arithmetic
 * as its middle. The offset is spelt out because it must be a literal to become part of the instruction.
 */
@inline function take(p: usize, i: i32, one: bool): v128 {
  return one ? v128.load32_zero(p)
    : i == 3 ? v128.load(p, 48) : i == 2 ? v128.load(p, 32) : i == 1 ? v128.load(p, 16) : v128.load(p);
}

@inline function put(p: usize, v: v128, i: i32, one: bool): void {
  if (one) v128.store_lane<f32>(p, v, 0);
  else if (i == 3) v128.store(p, v, 48);
  else if (i == 2) v128.store(p, v, 32);
  else if (i == 1) v128.store(p, v, 16);
  else v128.store(p, v);
}

@inline function centre(x: v128, hi: v128, lo: v128, centred: bool): v128 {
  return centred ? f32x4.sub(f32x4.sub(x, hi), lo) : x;
}

@unmanaged class Forward {
  x: f64; weight: f64; bias: f64; y: f64; mean: f64; variance: f64; moments: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
}

/** Statistics and y of the rows. Unit u is the rows [u * unit, (u + 1) * unit). */
export function row_norm(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Forward>(args);
  const size = <usize>a.size, groups = <usize>a.groups, inner = <usize>a.inner, unit = <usize>a.unit, count = a.size;
  const channels = size / inner, weight = <usize>a.weight, bias = <usize>a.bias, eps = a.eps, bytes = size << 2;
  const means = <usize>a.mean, variances = <usize>a.variance, end = min(<usize>hi * unit, <usize>a.rows);
  const m = changetype<Moments>(<usize>a.moments + (<usize>worker << 6));
  let row = <usize>lo * unit, x = <usize>a.x + row * bytes, y = <usize>a.y + row * bytes;
  for (; row < end; row++, x += bytes, y += bytes) {
    let mean: f64 = 0, variance: f64 = 0;
    if (means) {
      m.count = 0; m.mean = 0; m.m2 = 0;
      addRun(m, x, size);
      mean = m.mean; variance = m.m2 / count;
      store<f64>(means + (row << 3), mean);
    } else {
      variance = sumSquares(x, size) / count;
    }
    store<f64>(variances + (row << 3), variance);
    const rstd = 1 / sqrt<f64>(variance + eps), affine = ((row % groups) * channels) << 2;
    if (inner == 1 && weight) {
      const w = weight + affine, b = bias + affine, r = <f32>rstd;
      if (bias) elementsWithBias(x, w, b, y, size, mean, r);
      else if (means) elementsCentred(x, w, y, size, mean, r);
      else elementsPlain(x, w, y, size, r);
    } else if (!weight && !bias) {
      if (means) runCentred(x, y, size, mean, <f32>rstd, 0);
      else runPlain(x, y, size, <f32>rstd);
    } else {
      let w = weight + affine, b = bias + affine, from = x, to = y;
      for (let c: usize = 0; c < channels; c++, from += inner << 2, to += inner << 2, w += 4, b += 4) {
        const scale = weight ? rstd * <f64>load<f32>(w) : rstd;
        runCentred(from, to, inner, mean, <f32>scale, bias ? load<f32>(b) : 0);
      }
    }
  }
}

function runCentred(x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32): void {
  applyRun(x, y, n, mean, scale, shift, true);
}

function runPlain(x: usize, y: usize, n: usize, scale: f32): void {
  applyRun(x, y, n, 0, scale, 0, false);
}

/** y = (x - mean) * scale + shift over a run, or x * scale. */
@inline function applyRun(x: usize, y: usize, n: usize, mean: f64, scale: f32, shift: f32, centred: bool): void {
  const hi = f32x4.splat(<f32>mean), lo = f32x4.splat(<f32>(mean - <f64><f32>mean));
  const k = f32x4.splat(scale), s = f32x4.splat(shift), end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64) {
    runStep(x, y, 0, hi, lo, k, s, centred, false);
    runStep(x, y, 1, hi, lo, k, s, centred, false);
    runStep(x, y, 2, hi, lo, k, s, centred, false);
    runStep(x, y, 3, hi, lo, k, s, centred, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16) {
    runStep(x, y, 0, hi, lo, k, s, centred, false);
  }
  for (; x < end; x += 4, y += 4) runStep(x, y, 0, hi, lo, k, s, centred, true);
}

@inline function runStep(
  x: usize, y: usize, i: i32, hi: v128, lo: v128, k: v128, s: v128, centred: bool, one: bool,
): void {
  const v = f32x4.mul(centre(take(x, i, one), hi, lo, centred), k);
  put(y, centred ? f32x4.add(v, s) : v, i, one);
}

function elementsWithBias(x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32): void {
  applyElements(x, w, b, y, n, mean, rstd, true, true);
}

function elementsCentred(x: usize, w: usize, y: usize, n: usize, mean: f64, rstd: f32): void {
  applyElements(x, w, w, y, n, mean, rstd, true, false);
}

function elementsPlain(x: usize, w: usize, y: usize, n: usize, rstd: f32): void {
  applyElements(x, w, w, y, n, 0, rstd, false, false);
}

/** y = (x - mean) * rstd * weight + bias, weight and bias element by element. */
@inline function applyElements(
  x: usize, w: usize, b: usize, y: usize, n: usize, mean: f64, rstd: f32, centred: bool, hasBias: bool,
): void {
  const hi = f32x4.splat(<f32>mean), lo = f32x4.splat(<f32>(mean - <f64><f32>mean)), r = f32x4.splat(rstd);
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64, w += 64, b += 64) {
    elementStep(x, w, b, y, 0, hi, lo, r, centred, hasBias, false);
    elementStep(x, w, b, y, 1, hi, lo, r, centred, hasBias, false);
    elementStep(x, w, b, y, 2, hi, lo, r, centred, hasBias, false);
    elementStep(x, w, b, y, 3, hi, lo, r, centred, hasBias, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16, w += 16, b += 16) {
    elementStep(x, w, b, y, 0, hi, lo, r, centred, hasBias, false);
  }
  for (; x < end; x += 4, y += 4, w += 4, b += 4) elementStep(x, w, b, y, 0, hi, lo, r, centred, hasBias, true);
}

@inline function elementStep(
  x: usize, w: usize, b: usize, y: usize, i: i32, hi: v128, lo: v128, r: v128, centred: bool, hasBias: bool, one: bool,
): void {
  const v = f32x4.mul(f32x4.mul(centre(take(x, i, one), hi, lo, centred), r), take(w, i, one));
  put(y, hasBias ? f32x4.add(v, take(b, i, one)) : v, i, one);
}

@unmanaged class RunGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; partial: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
}

/**
 * Backward where weight is constant over runs of `inner`. Writes dx (unless 0) and, to `partial` [rows, size / inner, 2] in
 * float64, each run's sums of dy and of dy * xhat. Unit u is the rows [u * unit, (u + 1) * unit).
 */
export function row_norm_grad_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<RunGrad>(args);
  const size = <usize>a.size, inner = <usize>a.inner, groups = <usize>a.groups, unit = <usize>a.unit, eps = a.eps;
  const channels = size / inner, step = inner << 2, bytes = size << 2, scale = 1 / a.size;
  const weight = <usize>a.weight, means = <usize>a.mean, variances = <usize>a.variance, hasDx = a.dx != 0;
  const end = min(<usize>hi * unit, <usize>a.rows);
  let row = <usize>lo * unit, part = <usize>a.partial + ((row * channels) << 4);
  let x = <usize>a.x + row * bytes, dy = <usize>a.dy + row * bytes, dx = <usize>a.dx + row * bytes;
  for (; row < end; row++) {
    const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean, rest = mean - <f64>h;
    const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps), from = weight + (((row % groups) * channels) << 2);
    let sumG: f64 = 0, sumGX: f64 = 0, p = x, q = dy, w = from;
    for (let c: usize = 0; c < channels; c++, p += step, q += step, w += 4, part += 16) {
      runSums(p, q, inner, h, part);
      const s = load<f64>(part), sx = (load<f64>(part, 8) - rest * s) * rstd, wc: f64 = weight ? load<f32>(w) : 1;
      store<f64>(part, sx, 8);
      sumG += wc * s; sumGX += wc * sx;
    }
    if (hasDx) {
      // dx = rstd * (weight * dy - average(g) - xhat * average(g * xhat)), xhat = (x - hi) * rstd - rest * rstd
      const k = rstd * sumGX * scale, s = means ? <f32>(rstd * (sumG * scale - rest * k)) : 0;
      w = from;
      for (const stop = x + bytes; x < stop; x += step, dy += step, dx += step, w += 4) {
        runDx(x, dy, dx, inner, h, <f32>rstd, weight ? <f32>(rstd * <f64>load<f32>(w)) : <f32>rstd, <f32>k, s);
      }
    } else {
      x += bytes; dy += bytes;
    }
  }
}

function runSums(x: usize, dy: usize, n: usize, hi: f32, out: usize): void {
  sumsAndShares(x, dy, dy, dy, dy, n, hi, 0, 1, out, false, true, false, true);
}

function elementSums(x: usize, dy: usize, w: usize, n: usize, hi: f32, out: usize): void {
  sumsAndShares(x, dy, w, dy, dy, n, hi, 0, 1, out, true, true, false, true);
}

function elementShares(x: usize, dy: usize, dWeight: usize, dBias: usize, n: usize, hi: f32, lo: f32, r: f32): void {
  sumsAndShares(x, dy, dy, dWeight, dBias, n, hi, lo, r, 0, false, false, true, true);
}

function elementBoth(
  x: usize, dy: usize, w: usize, dWeight: usize, dBias: usize, n: usize, hi: f32, lo: f32, r: f32, out: usize,
): void {
  sumsAndShares(x, dy, w, dWeight, dBias, n, hi, lo, r, out, true, true, true, true);
}

function elementBothPlain(
  x: usize, dy: usize, w: usize, dWeight: usize, dBias: usize, n: usize, r: f32, out: usize,
): void {
  sumsAndShares(x, dy, w, dWeight, dBias, n, 0, 0, r, out, true, true, true, false);
}

/**
 * First pass of backward over a run. `sums` stores at `out`, as two doubles, the sums of g and of g * z, where g is dy, times w
 * if there is a weight. `shares` adds dy * z to dWeight and dy to dBias. z is xhat where shares are wanted, else x - hi.
 * Not centred: z is x * r, and the sum of g is left at 0.
 */
@inline function sumsAndShares(
  x: usize, dy: usize, w: usize, dWeight: usize, dBias: usize, n: usize, hi: f32, lo: f32, rstd: f32, out: usize,
  hasWeight: bool, sums: bool, shares: bool, centred: bool,
): void {
  const end = dy + (n << 2), vectors = dy + ((n & ~3) << 2), whole = dy + ((n & ~15) << 2);
  const h = f32x4.splat(hi), l = f32x4.splat(lo), r = f32x4.splat(rstd);
  let w1 = f64x2.splat(0), w2 = w1, a = f32x4.splat(0), b = a;
  while (dy < whole) {
    a = f32x4.splat(0); b = a;
    for (const stop = min(dy + BLOCK, whole); dy < stop; dy += 64, x += 64, w += 64, dWeight += 64, dBias += 64) {
      const g0 = take(dy, 0, false), v0 = weightOr(g0, w, 0, hasWeight, false);
      const p0 = share(g0, x, dWeight, dBias, 0, h, l, r, shares, centred, false);
      const g1 = take(dy, 1, false), v1 = weightOr(g1, w, 1, hasWeight, false);
      const p1 = share(g1, x, dWeight, dBias, 1, h, l, r, shares, centred, false);
      const s0 = f32x4.add(weighted(g0, v0, hasWeight), weighted(g1, v1, hasWeight));
      const t0 = f32x4.add(weighted(p0, v0, hasWeight), weighted(p1, v1, hasWeight));
      const g2 = take(dy, 2, false), v2 = weightOr(g2, w, 2, hasWeight, false);
      const p2 = share(g2, x, dWeight, dBias, 2, h, l, r, shares, centred, false);
      const g3 = take(dy, 3, false), v3 = weightOr(g3, w, 3, hasWeight, false);
      const p3 = share(g3, x, dWeight, dBias, 3, h, l, r, shares, centred, false);
      const s1 = f32x4.add(weighted(g2, v2, hasWeight), weighted(g3, v3, hasWeight));
      const t1 = f32x4.add(weighted(p2, v2, hasWeight), weighted(p3, v3, hasWeight));
      if (centred) a = f32x4.add(a, f32x4.add(s0, s1));
      b = f32x4.add(b, f32x4.add(t0, t1));
    }
    w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  }
  a = f32x4.splat(0); b = a;
  for (; dy < vectors; dy += 16, x += 16, w += 16, dWeight += 16, dBias += 16) {
    const g = take(dy, 0, false), v = weightOr(g, w, 0, hasWeight, false);
    if (centred) a = f32x4.add(a, weighted(g, v, hasWeight));
    b = f32x4.add(b, weighted(share(g, x, dWeight, dBias, 0, h, l, r, shares, centred, false), v, hasWeight));
  }
  for (; dy < end; dy += 4, x += 4, w += 4, dWeight += 4, dBias += 4) {
    const g = take(dy, 0, true), v = weightOr(g, w, 0, hasWeight, true);
    if (centred) a = f32x4.add(a, weighted(g, v, hasWeight));
    b = f32x4.add(b, weighted(share(g, x, dWeight, dBias, 0, h, l, r, shares, centred, true), v, hasWeight));
  }
  if (!sums) return;
  w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  v128.store(out, f64x2.add(i64x2.shuffle(w1, w2, 0, 2), i64x2.shuffle(w1, w2, 1, 3)));
}

/** The weight comes before dWeight and dBias are stored: a load behind a store 4096 bytes apart would wait for it. */
@inline function weightOr(other: v128, w: usize, i: i32, hasWeight: bool, one: bool): v128 {
  return hasWeight ? take(w, i, one) : other;
}

@inline function weighted(v: v128, w: v128, hasWeight: bool): v128 {
  return hasWeight ? f32x4.mul(v, w) : v;
}

/** dy * z of one vector; with `shares`, also adds it to dWeight and dy to dBias. */
@inline function share(
  g: v128, x: usize, dWeight: usize, dBias: usize, i: i32, hi: v128, lo: v128, r: v128,
  shares: bool, centred: bool, one: bool,
): v128 {
  if (!shares) return f32x4.mul(g, f32x4.sub(take(x, i, one), hi));
  const p = f32x4.mul(g, f32x4.mul(centre(take(x, i, one), hi, lo, centred), r));
  const sum = f32x4.add(take(dBias, i, one), g);
  put(dWeight, f32x4.add(take(dWeight, i, one), p), i, one);
  put(dBias, sum, i, one);
  return p;
}

/** dx = dy * scale - ((x - hi) * rstd * k + s) over a run. */
function runDx(
  x: usize, dy: usize, dx: usize, n: usize, hi: f32, rstd: f32, scale: f32, k: f32, s: f32,
): void {
  const h = f32x4.splat(hi), r = f32x4.splat(rstd), p = f32x4.splat(scale), q = f32x4.splat(k), t = f32x4.splat(s);
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, dy += 64, dx += 64) {
    runDxStep(x, dy, dx, 0, h, r, p, q, t, false);
    runDxStep(x, dy, dx, 1, h, r, p, q, t, false);
    runDxStep(x, dy, dx, 2, h, r, p, q, t, false);
    runDxStep(x, dy, dx, 3, h, r, p, q, t, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, dy += 16, dx += 16) {
    runDxStep(x, dy, dx, 0, h, r, p, q, t, false);
  }
  for (; x < end; x += 4, dy += 4, dx += 4) runDxStep(x, dy, dx, 0, h, r, p, q, t, true);
}

@inline function runDxStep(
  x: usize, dy: usize, dx: usize, i: i32, hi: v128, r: v128, p: v128, q: v128, s: v128, one: bool,
): void {
  const t = f32x4.add(f32x4.mul(f32x4.mul(f32x4.sub(take(x, i, one), hi), r), q), s);
  put(dx, f32x4.sub(f32x4.mul(take(dy, i, one), p), t), i, one);
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

@unmanaged class ElementGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; sums: f64; recent: f64; partial: f64;
  batch: f64; groups: f64; size: f64; eps: f64; block: f64; columns: f64;
}

/** Batch entries whose shares are added in float32 before they go to float64. */
const SHORT_BLOCK: usize = 8;

/**
 * Backward where weight differs from element to element. Unless `partial` is 0 it gets, for each block of batch entries, the
 * sums of dy * xhat and of dy in float64: [blocks, 2, groups * size]; `recent` is 2 * columns floats for each thread.
 * A unit is `block` batch entries of one group and `columns` elements. Where columns span the row, dx (unless 0) is written
 * while the row is in cache, and `sums` is 16 bytes for each thread; else `sums` [rows, tiles, 2] keeps each tile's sums for
 * row_norm_grad_dx.
 */
export function row_norm_grad_elements(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, columns = <usize>a.columns, block = <usize>a.block;
  const tiles = (size + columns - 1) / columns, affine = groups * size, shares = a.partial != 0, hasDx = a.dx != 0;
  const means = <usize>a.mean, variances = <usize>a.variance, eps = a.eps, scale = 1 / a.size, batch = <usize>a.batch;
  const dWeight = <usize>a.recent + <usize>worker * (columns << 3), dBias = dWeight + (columns << 2);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const tile = u % tiles, column = tile * columns, n = min(columns, size - column);
    const group = (u / tiles) % groups, b = u / tiles / groups, from = group * size + column;
    const w = <usize>a.weight + (from << 2), partial = <usize>a.partial + ((2 * b * affine + from) << 3);
    if (shares) {
      memory.fill(partial, 0, n << 3);
      memory.fill(partial + (affine << 3), 0, n << 3);
      memory.fill(dWeight, 0, n << 2);
      memory.fill(dBias, 0, n << 2);
    }
    const first = b * block, end = min(first + block, batch), p = (first * affine + from) << 2, next = affine << 2;
    let x = <usize>a.x + p, dy = <usize>a.dy + p, dx = <usize>a.dx + p;
    for (let e = first; e < end; e++, x += next, dy += next, dx += next) {
      const row = e * groups + group, sums = <usize>a.sums + ((tiles == 1 ? <usize>worker : row * tiles + tile) << 4);
      const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean, rest = mean - <f64>h;
      const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps);
      if (!shares) elementSums(x, dy, w, n, h, sums);
      else if (!hasDx) elementShares(x, dy, dWeight, dBias, n, h, <f32>rest, <f32>rstd);
      else if (means) elementBoth(x, dy, w, dWeight, dBias, n, h, <f32>rest, <f32>rstd, sums);
      else elementBothPlain(x, dy, w, dWeight, dBias, n, <f32>rstd, sums);
      if (shares && ((e - first) % SHORT_BLOCK == SHORT_BLOCK - 1 || e + 1 == end)) {
        settle(dWeight, partial, n);
        settle(dBias, partial + (affine << 3), n);
      }
      if (tiles == 1 && hasDx) {
        const s = load<f64>(sums), sx = load<f64>(sums, 8);
        elementDx(x, dy, w, dx, n, h, rest, rstd, means ? s * scale : 0, (shares ? sx : (sx - rest * s) * rstd) * scale);
      }
    }
  }
}

/** Adds n floats from `recent` to the doubles of `partial` and sets them to zero. */
function settle(recent: usize, partial: usize, n: usize): void {
  const zero = f32x4.splat(0), end = recent + (n << 2);
  for (const whole = recent + ((n & ~3) << 2); recent < whole; recent += 16, partial += 32) {
    const low = f64x2.promote_low_f32x4(v128.load64_zero(recent)), high = f64x2.promote_low_f32x4(v128.load64_zero(recent, 8));
    v128.store(partial, f64x2.add(v128.load(partial), low));
    v128.store(partial, f64x2.add(v128.load(partial, 16), high), 16);
    v128.store(recent, zero);
  }
  for (; recent < end; recent += 4, partial += 8) {
    store<f64>(partial, load<f64>(partial) + <f64>load<f32>(recent));
    store<f32>(recent, 0);
  }
}

/** dx from the tiles' sums, where row_norm_grad_elements worked in tiles. Unit u is row u. */
export function row_norm_grad_dx(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, columns = <usize>a.columns, tiles = (size + columns - 1) / columns;
  const means = <usize>a.mean, variances = <usize>a.variance;
  for (let row = <usize>lo; row < <usize>hi; row++) {
    const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean;
    const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + a.eps);
    let sum = f64x2.splat(0), p = <usize>a.sums + ((row * tiles) << 4);
    for (let t: usize = 0; t < tiles; t++, p += 16) sum = f64x2.add(sum, v128.load(p));
    const g = means ? f64x2.extract_lane(sum, 0) / a.size : 0, gx = f64x2.extract_lane(sum, 1) / a.size;
    const from = (row * size) << 2, w = <usize>a.weight + (((row % groups) * size) << 2);
    elementDx(<usize>a.x + from, <usize>a.dy + from, w, <usize>a.dx + from, size, h, mean - <f64>h, rstd, g, gx);
  }
}

/** dx = dy * rstd * weight - ((x - hi) * rstd * k + s), from the averages of g and of g * xhat; hi + rest is the mean. */
@inline function elementDx(
  x: usize, dy: usize, w: usize, dx: usize, n: usize, hi: f32, rest: f64, rstd: f64, g: f64, gx: f64,
): void {
  const k = rstd * gx;
  elementDxRow(x, dy, w, dx, n, hi, <f32>rstd, <f32>k, <f32>(rstd * (g - rest * k)));
}

function elementDxRow(
  x: usize, dy: usize, w: usize, dx: usize, n: usize, hi: f32, rstd: f32, k: f32, s: f32,
): void {
  const h = f32x4.splat(hi), r = f32x4.splat(rstd), q = f32x4.splat(k), t = f32x4.splat(s), end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, dy += 64, w += 64, dx += 64) {
    elementDxStep(x, dy, w, dx, 0, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 1, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 2, h, r, q, t, false);
    elementDxStep(x, dy, w, dx, 3, h, r, q, t, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, dy += 16, w += 16, dx += 16) {
    elementDxStep(x, dy, w, dx, 0, h, r, q, t, false);
  }
  for (; x < end; x += 4, dy += 4, w += 4, dx += 4) elementDxStep(x, dy, w, dx, 0, h, r, q, t, true);
}

@inline function elementDxStep(
  x: usize, dy: usize, w: usize, dx: usize, i: i32, hi: v128, r: v128, k: v128, s: v128, one: bool,
): void {
  const t = f32x4.add(f32x4.mul(f32x4.mul(f32x4.sub(take(x, i, one), hi), r), k), s);
  put(dx, f32x4.sub(f32x4.mul(f32x4.mul(take(dy, i, one), r), take(w, i, one)), t), i, one);
}

@unmanaged class ElementMerge { partial: f64; dWeight: f64; dBias: f64; blocks: f64; affine: f64; unit: f64; }

/** dWeight and dBias (each unless 0) from `partial` [blocks, 2, affine]. Unit u is `unit` elements of the affine. */
export function row_norm_merge_elements(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementMerge>(args);
  const affine = <usize>a.affine, from = <usize>lo * <usize>a.unit, to = min(<usize>hi * <usize>a.unit, affine);
  const p = <usize>a.partial, blocks = <usize>a.blocks;
  if (a.dWeight != 0) addBlocks(p, <usize>a.dWeight, from, to, affine, blocks);
  if (a.dBias != 0) addBlocks(p + (affine << 3), <usize>a.dBias, from, to, affine, blocks);
}

/** y[i] = sum over blocks of p[block, 0, i]. */
function addBlocks(p: usize, y: usize, from: usize, to: usize, affine: usize, blocks: usize): void {
  const step = affine << 4;
  let i = from;
  for (; i + 8 <= to; i += 8) {
    let q = p + (i << 3), a = f64x2.splat(0), b = a, c = a, d = a;
    for (let k: usize = 0; k < blocks; k++, q += step) {
      a = f64x2.add(a, v128.load(q));
      b = f64x2.add(b, v128.load(q, 16));
      c = f64x2.add(c, v128.load(q, 32));
      d = f64x2.add(d, v128.load(q, 48));
    }
    v128.store(y + (i << 2), narrow(a, b));
    v128.store(y + (i << 2), narrow(c, d), 16);
  }
  for (; i < to; i++) {
    let q = p + (i << 3), sum: f64 = 0;
    for (let k: usize = 0; k < blocks; k++, q += step) sum += load<f64>(q);
    store<f32>(y + (i << 2), <f32>sum);
  }
}

@inline function narrow(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}
