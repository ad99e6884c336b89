// Normalization over the rows of [rows, size]: layer, group and instance norm channels-first, and root mean square.
//
// A row's statistics are float64. The float32 work sees the mean as hi + lo and centres by (x - hi) - lo: exact where the mean
// is far larger than the spread. Flags that are constant at the call (centred, hasWeight, one, ...) fold away after inlining.
import { Moments, addRun, sumLanes, sumSquares, widen } from "./lib_moments";

@unmanaged class Forward {
  x: f64; weight: f64; bias: f64; y: f64; mean: f64; variance: f64; moments: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
}

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

/** Statistics and y of the rows. Unit u is the rows [u * unit, (u + 1) * unit). */
export function row_norm(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Forward>(args);
  const size = <usize>a.size, groups = <usize>a.groups, inner = <usize>a.inner, unit = <usize>a.unit;
  const channels = size / inner, weight = <usize>a.weight, bias = <usize>a.bias;
  const m = changetype<Moments>(<usize>a.moments + (<usize>worker << 6));
  const end = min(<usize>hi * unit, <usize>a.rows);
  for (let row = <usize>lo * unit; row < end; row++) {
    const x = <usize>a.x + ((row * size) << 2), y = <usize>a.y + ((row * size) << 2);
    let mean: f64 = 0, variance: f64 = 0;
    if (a.mean != 0) {
      m.count = 0; m.mean = 0; m.m2 = 0;
      addRun(m, x, size);
      mean = m.mean; variance = m.m2 / a.size;
      store<f64>(<usize>a.mean + (row << 3), mean);
    } else {
      variance = sumSquares(x, size) / a.size;
    }
    store<f64>(<usize>a.variance + (row << 3), variance);
    const rstd = 1 / sqrt<f64>(variance + a.eps), affine = ((row % groups) * channels) << 2;
    const w = weight ? weight + affine : 0, b = bias ? bias + affine : 0;
    if (a.mean != 0) applyRow(x, w, b, y, size, inner, mean, rstd, true);
    else applyRow(x, w, b, y, size, inner, mean, rstd, false);
  }
}

@inline function applyRow(
  x: usize, w: usize, b: usize, y: usize, size: usize, inner: usize, mean: f64, rstd: f64, centred: bool,
): void {
  const h = <f32>mean, hi = f32x4.splat(h), lo = f32x4.splat(<f32>(mean - <f64>h)), r = f32x4.splat(<f32>rstd);
  if (!w && !b) {
    applyRun(x, y, size, hi, lo, r, r, centred, false);
  } else if (inner == 1) {
    if (w && b) applyElements(x, w, b, y, size, hi, lo, r, centred, true, true);
    else if (w) applyElements(x, w, b, y, size, hi, lo, r, centred, true, false);
    else applyElements(x, w, b, y, size, hi, lo, r, centred, false, true);
  } else {
    const step = inner << 2;
    for (const end = x + (size << 2); x < end; x += step, y += step) {
      let scale = r;
      if (w) { scale = f32x4.splat(<f32>(rstd * <f64>load<f32>(w))); w += 4; }
      if (b) {
        applyRun(x, y, inner, hi, lo, scale, v128.load32_splat(b), centred, true);
        b += 4;
      } else {
        applyRun(x, y, inner, hi, lo, scale, scale, centred, false);
      }
    }
  }
}

/** y = (x - mean) * scale + shift over a run with one scale. */
@inline function applyRun(
  x: usize, y: usize, n: usize, hi: v128, lo: v128, scale: v128, shift: v128, centred: bool, hasShift: bool,
): void {
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64) {
    runStep(x, y, 0, hi, lo, scale, shift, centred, hasShift, false);
    runStep(x, y, 1, hi, lo, scale, shift, centred, hasShift, false);
    runStep(x, y, 2, hi, lo, scale, shift, centred, hasShift, false);
    runStep(x, y, 3, hi, lo, scale, shift, centred, hasShift, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16) {
    runStep(x, y, 0, hi, lo, scale, shift, centred, hasShift, false);
  }
  for (; x < end; x += 4, y += 4) runStep(x, y, 0, hi, lo, scale, shift, centred, hasShift, true);
}

@inline function runStep(
  x: usize, y: usize, i: i32, hi: v128, lo: v128, scale: v128, shift: v128, centred: bool, hasShift: bool, one: bool,
): void {
  const v = f32x4.mul(centre(take(x, i, one), hi, lo, centred), scale);
  put(y, hasShift ? f32x4.add(v, shift) : v, i, one);
}

/** y = (x - mean) * rstd * weight + bias, weight and bias element by element. */
@inline function applyElements(
  x: usize, w: usize, b: usize, y: usize, n: usize, hi: v128, lo: v128, r: v128,
  centred: bool, hasWeight: bool, hasBias: bool,
): void {
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, y += 64, w += 64, b += 64) {
    elementStep(x, w, b, y, 0, hi, lo, r, centred, hasWeight, hasBias, false);
    elementStep(x, w, b, y, 1, hi, lo, r, centred, hasWeight, hasBias, false);
    elementStep(x, w, b, y, 2, hi, lo, r, centred, hasWeight, hasBias, false);
    elementStep(x, w, b, y, 3, hi, lo, r, centred, hasWeight, hasBias, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, y += 16, w += 16, b += 16) {
    elementStep(x, w, b, y, 0, hi, lo, r, centred, hasWeight, hasBias, false);
  }
  for (; x < end; x += 4, y += 4, w += 4, b += 4) {
    elementStep(x, w, b, y, 0, hi, lo, r, centred, hasWeight, hasBias, true);
  }
}

@inline function elementStep(
  x: usize, w: usize, b: usize, y: usize, i: i32, hi: v128, lo: v128, r: v128,
  centred: bool, hasWeight: bool, hasBias: bool, one: bool,
): void {
  let v = f32x4.mul(centre(take(x, i, one), hi, lo, centred), r);
  if (hasWeight) v = f32x4.mul(v, take(w, i, one));
  if (hasBias) v = f32x4.add(v, take(b, i, one));
  put(y, v, i, one);
}

@unmanaged class RunGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; partial: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
}

/** Bytes whose products are summed in float32 before they go to float64. */
const BLOCK: usize = 512;

/**
 * Backward where weight is constant over runs of `inner`. Writes dx (unless 0) and, to `partial` [rows, size / inner, 2] in
 * float64, each run's sums of dy and of dy * xhat. Unit u is the rows [u * unit, (u + 1) * unit).
 */
export function row_norm_grad_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<RunGrad>(args);
  const end = min(<usize>hi * <usize>a.unit, <usize>a.rows);
  for (let row = <usize>lo * <usize>a.unit; row < end; row++) {
    if (a.mean != 0) runGradOfRow(a, row, load<f64>(<usize>a.mean + (row << 3)), true);
    else runGradOfRow(a, row, 0, false);
  }
}

@inline function runGradOfRow(a: RunGrad, row: usize, mean: f64, centred: bool): void {
  const size = <usize>a.size, inner = <usize>a.inner, channels = size / inner, step = inner << 2;
  const from = (row * size) << 2, weight = <usize>a.weight, affine = ((row % <usize>a.groups) * channels) << 2;
  const rstd = 1 / sqrt<f64>(load<f64>(<usize>a.variance + (row << 3)) + a.eps);
  const h = <f32>mean, rest = mean - <f64>h, hi = f32x4.splat(h);
  let x = <usize>a.x + from, dy = <usize>a.dy + from, w = weight + affine;
  let part = <usize>a.partial + ((row * channels) << 4);
  let sumG: f64 = 0, sumGX: f64 = 0;
  for (const end = x + (size << 2); x < end; x += step, dy += step, w += 4, part += 16) {
    productSums(x, dy, 0, inner, hi, part, centred, false);
    const s = load<f64>(part), sx = (load<f64>(part, 8) - rest * s) * rstd, wc: f64 = weight ? load<f32>(w) : 1;
    store<f64>(part, sx, 8);
    sumG += wc * s; sumGX += wc * sx;
  }
  if (a.dx == 0) return;
  // dx = rstd * (weight * dy - average(g) - xhat * average(g * xhat)), xhat = (x - hi) * rstd - rest * rstd
  const k = rstd * sumGX / a.size, r = f32x4.splat(<f32>rstd), q = f32x4.splat(<f32>k);
  const s = f32x4.splat(<f32>(rstd * (sumG / a.size - rest * k)));
  let dx = <usize>a.dx + from, p = r;
  x = <usize>a.x + from; dy = <usize>a.dy + from; w = weight + affine;
  for (const end = x + (size << 2); x < end; x += step, dy += step, dx += step, w += 4) {
    if (weight) p = f32x4.splat(<f32>(rstd * <f64>load<f32>(w)));
    runGrad(x, dy, dx, inner, hi, r, p, q, s, centred);
  }
}

/** Stores at `out`, as two doubles, the sums of g and of g * (x - hi) over a run; g = dy, times w if there is a weight. */
@inline function productSums(
  x: usize, dy: usize, w: usize, n: usize, hi: v128, out: usize, centred: bool, hasWeight: bool,
): void {
  const end = dy + (n << 2), vectors = dy + ((n & ~3) << 2), whole = dy + ((n & ~15) << 2);
  let w1 = f64x2.splat(0), w2 = w1, a = f32x4.splat(0), b = a;
  while (dy < whole) {
    a = f32x4.splat(0); b = a;
    for (const stop = min(dy + BLOCK, whole); dy < stop; dy += 64, x += 64, w += 64) {
      const g0 = product(dy, w, 0, hasWeight, false), g1 = product(dy, w, 1, hasWeight, false);
      const d0 = apart(x, hi, 0, centred, false), d1 = apart(x, hi, 1, centred, false);
      const t0 = f32x4.add(g0, g1), u0 = f32x4.add(f32x4.mul(g0, d0), f32x4.mul(g1, d1));
      const g2 = product(dy, w, 2, hasWeight, false), g3 = product(dy, w, 3, hasWeight, false);
      const d2 = apart(x, hi, 2, centred, false), d3 = apart(x, hi, 3, centred, false);
      a = f32x4.add(a, f32x4.add(t0, f32x4.add(g2, g3)));
      b = f32x4.add(b, f32x4.add(u0, f32x4.add(f32x4.mul(g2, d2), f32x4.mul(g3, d3))));
    }
    w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  }
  a = f32x4.splat(0); b = a;
  for (; dy < vectors; dy += 16, x += 16, w += 16) {
    const g = product(dy, w, 0, hasWeight, false);
    a = f32x4.add(a, g); b = f32x4.add(b, f32x4.mul(g, apart(x, hi, 0, centred, false)));
  }
  for (; dy < end; dy += 4, x += 4, w += 4) {
    const g = product(dy, w, 0, hasWeight, true);
    a = f32x4.add(a, g); b = f32x4.add(b, f32x4.mul(g, apart(x, hi, 0, centred, true)));
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

/** dx = dy * p - ((x - hi) * r * q + s) over a run. */
@inline function runGrad(
  x: usize, dy: usize, dx: usize, n: usize, hi: v128, r: v128, p: v128, q: v128, s: v128, centred: bool,
): void {
  const end = x + (n << 2);
  for (const whole = x + ((n & ~15) << 2); x < whole; x += 64, dy += 64, dx += 64) {
    runGradStep(x, dy, dx, 0, hi, r, p, q, s, centred, false);
    runGradStep(x, dy, dx, 1, hi, r, p, q, s, centred, false);
    runGradStep(x, dy, dx, 2, hi, r, p, q, s, centred, false);
    runGradStep(x, dy, dx, 3, hi, r, p, q, s, centred, false);
  }
  for (const vectors = x + ((end - x) & ~15); x < vectors; x += 16, dy += 16, dx += 16) {
    runGradStep(x, dy, dx, 0, hi, r, p, q, s, centred, false);
  }
  for (; x < end; x += 4, dy += 4, dx += 4) runGradStep(x, dy, dx, 0, hi, r, p, q, s, centred, true);
}

@inline function runGradStep(
  x: usize, dy: usize, dx: usize, i: i32, hi: v128, r: v128, p: v128, q: v128, s: v128, centred: bool, one: bool,
): void {
  const t = f32x4.mul(f32x4.mul(apart(x, hi, i, centred, one), r), q);
  put(dx, f32x4.sub(f32x4.mul(take(dy, i, one), p), centred ? f32x4.add(t, s) : t), i, one);
}

@unmanaged class RunMerge { partial: f64; dWeight: f64; dBias: f64; batch: f64; affine: f64; unit: f64; }

/** dBias and dWeight (each unless 0) from `partial` [batch, affine, 2]. Unit u is `unit` elements of the affine. */
export function row_norm_merge_runs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<RunMerge>(args);
  const affine = <usize>a.affine, batch = <usize>a.batch, end = min(<usize>hi * <usize>a.unit, affine);
  for (let c = <usize>lo * <usize>a.unit; c < end; c++) {
    let sum = f64x2.splat(0), p = <usize>a.partial + (c << 4);
    for (let n: usize = 0; n < batch; n++, p += affine << 4) sum = f64x2.add(sum, v128.load(p));
    if (a.dBias != 0) store<f32>(<usize>a.dBias + (c << 2), <f32>f64x2.extract_lane(sum, 0));
    if (a.dWeight != 0) store<f32>(<usize>a.dWeight + (c << 2), <f32>f64x2.extract_lane(sum, 1));
  }
}

@unmanaged class ElementGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; table: f64; partial: f64;
  batch: f64; groups: f64; size: f64; eps: f64; block: f64; columns: f64;
}

/** A row's share in dx = dy * weight * rstd - (xhat * q + s), xhat = ((x - hi) - lo) * rstd, and room for two sums. */
@unmanaged class RowTerms { hi: f32; lo: f32; rstd: f32; q: f32; s: f32; unused: f32; sumG: f64; sumGX: f64; }
const TERMS: usize = 40;

/** Fills the table of RowTerms. Unit u is row u. */
export function row_norm_grad_terms(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementGrad>(args);
  for (let row = <usize>lo; row < <usize>hi; row++) rowTerms(a, row, changetype<RowTerms>(<usize>a.table + row * TERMS));
}

function rowTerms(a: ElementGrad, row: usize, t: RowTerms): void {
  const rstd = 1 / sqrt<f64>(load<f64>(<usize>a.variance + (row << 3)) + a.eps);
  const mean = a.mean != 0 ? load<f64>(<usize>a.mean + (row << 3)) : 0, h = <f32>mean, rest = mean - <f64>h;
  t.hi = h; t.lo = <f32>rest; t.rstd = <f32>rstd;
  if (a.dx == 0) return;
  const size = <usize>a.size, from = (row * size) << 2, w = <usize>a.weight + (((row % <usize>a.groups) * size) << 2);
  const x = <usize>a.x + from, dy = <usize>a.dy + from, out = changetype<usize>(t) + offsetof<RowTerms>("sumG");
  if (a.mean != 0) productSums(x, dy, w, size, f32x4.splat(h), out, true, true);
  else productSums(x, dy, w, size, f32x4.splat(0), out, false, true);
  t.q = <f32>((t.sumGX - rest * t.sumG) * rstd * rstd / a.size);
  t.s = <f32>(t.sumG * rstd / a.size);
}

/**
 * Backward where weight differs from element to element: dx (unless 0) and, unless `partial` is 0, for each block of batch
 * entries the sums of dy * xhat and of dy, `partial` [blocks, 2, groups * size]. A unit is `block` batch entries of one group
 * and `columns` elements. Where columns span the row, the unit itself works out the rows' terms, in its thread's place of
 * the table, while the rows are in cache; else row_norm_grad_terms must have filled the table.
 */
export function row_norm_grad_elements(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, columns = <usize>a.columns, block = <usize>a.block;
  const tiles = (size + columns - 1) / columns, affine = (groups * size) << 2, next = affine;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const column = (u % tiles) * columns, n = min(columns, size - column);
    const group = (u / tiles) % groups, b = u / tiles / groups, from = (group * size + column) << 2;
    const w = <usize>a.weight + from, dx = <usize>a.dx;
    const dWeight = <usize>a.partial + 2 * b * affine + from, dBias = dWeight + affine;
    if (a.partial != 0) {
      memory.fill(dWeight, 0, n << 2);
      memory.fill(dBias, 0, n << 2);
    }
    const end = min((b + 1) * block, <usize>a.batch);
    for (let e = b * block; e < end; e += 2) {
      const row = e * groups + group, two = e + 1 < end, p = e * affine + from;
      let t0 = <usize>a.table + row * TERMS, t1 = t0 + groups * TERMS;
      if (tiles == 1) {
        t0 = <usize>a.table + 2 * TERMS * <usize>worker; t1 = t0 + TERMS;
        rowTerms(a, row, changetype<RowTerms>(t0));
        if (two) rowTerms(a, row + groups, changetype<RowTerms>(t1));
      }
      const x = <usize>a.x + p, dy = <usize>a.dy + p;
      if (a.mean != 0) elementGrads(x, dy, w, dx, p, next, dWeight, dBias, n, t0, t1, two, a.partial != 0, true);
      else elementGrads(x, dy, w, dx, p, next, dWeight, dBias, n, t0, t1, two, a.partial != 0, false);
    }
  }
}

@inline function elementGrads(
  x: usize, dy: usize, w: usize, dx: usize, p: usize, next: usize, dWeight: usize, dBias: usize, n: usize,
  t0: usize, t1: usize, two: bool, adds: bool, centred: bool,
): void {
  const a = changetype<RowTerms>(t0), b = changetype<RowTerms>(t1);
  if (!adds) {
    elementGrad(x, dy, w, dx + p, 0, 0, 0, n, a, a, false, true, false, centred);
    if (two) elementGrad(x + next, dy + next, w, dx + p + next, 0, 0, 0, n, b, b, false, true, false, centred);
  } else if (dx) {
    if (two) elementGrad(x, dy, w, dx + p, next, dWeight, dBias, n, a, b, true, true, true, centred);
    else elementGrad(x, dy, w, dx + p, next, dWeight, dBias, n, a, a, false, true, true, centred);
  } else {
    if (two) elementGrad(x, dy, w, 0, next, dWeight, dBias, n, a, b, true, false, true, centred);
    else elementGrad(x, dy, w, 0, next, dWeight, dBias, n, a, a, false, false, true, centred);
  }
}

/** One row, or two at once (the second `next` bytes on), so that dWeight and dBias are loaded and stored half as often. */
@inline function elementGrad(
  x: usize, dy: usize, w: usize, dx: usize, next: usize, dWeight: usize, dBias: usize, n: usize,
  a: RowTerms, b: RowTerms, two: bool, hasDx: bool, adds: bool, centred: bool,
): void {
  const hi0 = f32x4.splat(a.hi), lo0 = f32x4.splat(a.lo), r0 = f32x4.splat(a.rstd);
  const q0 = f32x4.splat(a.q), s0 = f32x4.splat(a.s);
  const hi1 = f32x4.splat(b.hi), lo1 = f32x4.splat(b.lo), r1 = f32x4.splat(b.rstd);
  const q1 = f32x4.splat(b.q), s1 = f32x4.splat(b.s);
  const vectors = (n & ~3) << 2, end = n << 2;
  let i: usize = 0;
  for (; i < vectors; i += 16) {
    elementGradStep(
      x + i, dy + i, w + i, dx + i, next, dWeight + i, dBias + i,
      hi0, lo0, r0, q0, s0, hi1, lo1, r1, q1, s1, two, hasDx, adds, centred, false,
    );
  }
  for (; i < end; i += 4) {
    elementGradStep(
      x + i, dy + i, w + i, dx + i, next, dWeight + i, dBias + i,
      hi0, lo0, r0, q0, s0, hi1, lo1, r1, q1, s1, two, hasDx, adds, centred, true,
    );
  }
}

@inline function elementGradStep(
  x: usize, dy: usize, w: usize, dx: usize, next: usize, dWeight: usize, dBias: usize,
  hi0: v128, lo0: v128, r0: v128, q0: v128, s0: v128, hi1: v128, lo1: v128, r1: v128, q1: v128, s1: v128,
  two: bool, hasDx: bool, adds: bool, centred: bool, one: bool,
): void {
  const weight = hasDx ? take(w, 0, one) : r0;
  const g0 = take(dy, 0, one), xhat0 = f32x4.mul(centre(take(x, 0, one), hi0, lo0, centred), r0);
  if (hasDx) put(dx, elementDx(g0, xhat0, weight, r0, q0, s0, centred), 0, one);
  let sumB = g0, sumW = f32x4.mul(g0, xhat0);
  if (two) {
    const g1 = take(dy + next, 0, one), xhat1 = f32x4.mul(centre(take(x + next, 0, one), hi1, lo1, centred), r1);
    if (hasDx) put(dx + next, elementDx(g1, xhat1, weight, r1, q1, s1, centred), 0, one);
    sumB = f32x4.add(g0, g1);
    sumW = f32x4.add(sumW, f32x4.mul(g1, xhat1));
  }
  if (adds) {
    put(dWeight, f32x4.add(take(dWeight, 0, one), sumW), 0, one);
    put(dBias, f32x4.add(take(dBias, 0, one), sumB), 0, one);
  }
}

@inline function elementDx(g: v128, xhat: v128, weight: v128, r: v128, q: v128, s: v128, centred: bool): v128 {
  const t = f32x4.mul(xhat, q);
  return f32x4.sub(f32x4.mul(f32x4.mul(g, r), weight), centred ? f32x4.add(t, s) : t);
}

@unmanaged class ElementMerge { partial: f64; dWeight: f64; dBias: f64; blocks: f64; affine: f64; unit: f64; }

/** dWeight and dBias (each unless 0) from `partial` [blocks, 2, affine]. Unit u is `unit` elements of the affine. */
export function row_norm_merge_elements(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementMerge>(args);
  const affine = <usize>a.affine, from = <usize>lo * <usize>a.unit, to = min(<usize>hi * <usize>a.unit, affine);
  const p = <usize>a.partial, blocks = <usize>a.blocks;
  if (a.dWeight != 0) addBlocks(p, <usize>a.dWeight, from, to, affine, blocks);
  if (a.dBias != 0) addBlocks(p + (affine << 2), <usize>a.dBias, from, to, affine, blocks);
}

/** y[i] = sum over blocks of p[block, 0, i], in float64. */
function addBlocks(p: usize, y: usize, from: usize, to: usize, affine: usize, blocks: usize): void {
  const step = affine << 3;
  let i = from;
  for (; i + 8 <= to; i += 8) {
    let q = p + (i << 2), a = f64x2.splat(0), b = a, c = a, d = a;
    for (let k: usize = 0; k < blocks; k++, q += step) {
      a = f64x2.add(a, f64x2.promote_low_f32x4(v128.load64_zero(q)));
      b = f64x2.add(b, f64x2.promote_low_f32x4(v128.load64_zero(q, 8)));
      c = f64x2.add(c, f64x2.promote_low_f32x4(v128.load64_zero(q, 16)));
      d = f64x2.add(d, f64x2.promote_low_f32x4(v128.load64_zero(q, 24)));
    }
    v128.store(y + (i << 2), narrow(a, b));
    v128.store(y + (i << 2), narrow(c, d), 16);
  }
  for (; i < to; i++) {
    let q = p + (i << 2), sum: f64 = 0;
    for (let k: usize = 0; k < blocks; k++, q += step) sum += <f64>load<f32>(q);
    store<f32>(y + (i << 2), <f32>sum);
  }
}

@inline function narrow(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}
