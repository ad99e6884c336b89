// Backward of row normalization where weight differs from element to element, and rows are few or long: by tiles of columns.
import { elementsDz, SEEN } from "./lib_rows";
import { addShares, addSharesFine, addSharesPlain, elementSums, elementSumsPlain } from "./lib_rows_grad";
import { elementDx, RowTerms, SHORT_BLOCK, SPAN, TERMS } from "./lib_row_terms";

@unmanaged class LongGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; terms: f64; partial: f64;
  batch: f64; groups: f64; size: f64; eps: f64; columns: f64;
  activation: f64; alpha: f64; bias: f64; dz: f64; scratch: f64;
}

/** Batch entries a unit: their shares are added in float32. */
const LONG_BLOCK: usize = 32;

/**
 * Sums of rows and shares. `partial` gets, for each LONG_BLOCK batch entries, the sums of dy * xhat and of dy in float32:
 * [blocks, 2, groups * size]; `terms` the RowTerms of each row and tile, [rows, tiles]. A unit is LONG_BLOCK batch entries of
 * one group and `columns` elements. With an activation the gradient to what went into it is written to `dz`, which may be
 * dx, and takes the place of dy; `scratch` has a cache line for each thread.
 */
export function row_norm_grad_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<LongGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, columns = <usize>a.columns, batch = <usize>a.batch;
  const tiles = (size + columns - 1) / columns, affine = groups * size, next = affine << 2, stride = groups * tiles * TERMS;
  const means = <usize>a.mean, variances = <usize>a.variance, eps = a.eps, op = <i32>a.activation, alpha = <f32>a.alpha;
  const place = op ? <usize>a.dz : <usize>a.dy, toDy = <usize>a.dy - place, sink = <usize>a.scratch + (<usize>worker << 6);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const tile = u % tiles, column = tile * columns, n = min(columns, size - column);
    const group = (u / tiles) % groups, b = u / tiles / groups, from = group * size + column;
    const w = <usize>a.weight + (from << 2), bias = <usize>a.bias + (from << 2);
    const dWeight = <usize>a.partial + ((2 * b * affine + from) << 2), dBias = dWeight + (affine << 2);
    const first = b * LONG_BLOCK, count = min(LONG_BLOCK, batch - first), p = (first * affine + from) << 2;
    const terms = <usize>a.terms + TERMS * ((first * groups + group) * tiles + tile);
    memory.fill(dWeight, 0, n << 2);
    memory.fill(dBias, 0, n << 2);
    let x = <usize>a.x + p, dy = place + p;
    for (let e: usize = 0; e < count; e += SHORT_BLOCK) {
      const x0 = x, dy0 = dy, t0 = terms + e * stride, rows = min(SHORT_BLOCK, count - e);
      let fine = false;
      for (let i: usize = 0; i < rows; i++, x += next, dy += next) {
        const row = (first + e + i) * groups + group, t = changetype<RowTerms>(t0 + i * stride);
        const mean = means ? load<f64>(means + (row << 3)) : 0;
        t.hi = <f32>mean; t.lo = <f32>(mean - <f64>t.hi); t.rstd = <f32>(1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps));
        if (abs(t.lo) * t.rstd > SEEN) fine = true;
        if (op) elementsDz(x, w, bias, dy + toDy, dy, n, mean, t.rstd, means != 0, a.bias != 0, op - 1, alpha, sink);
        if (means) elementSums(x, dy, w, n, t.hi, changetype<usize>(t) + offsetof<RowTerms>("sum"));
        else elementSumsPlain(x, dy, w, n, changetype<usize>(t) + offsetof<RowTerms>("sum"));
      }
      for (let c: usize = 0; c < n; c += SPAN) {
        const m = min(SPAN, n - c), o = c << 2;
        if (fine) addSharesFine(x0 + o, dy0 + o, next, rows, t0, stride, dWeight + o, dBias + o, m);
        else if (means) addShares(x0 + o, dy0 + o, next, rows, t0, stride, dWeight + o, dBias + o, m);
        else addSharesPlain(x0 + o, dy0 + o, next, rows, t0, stride, dWeight + o, dBias + o, m);
      }
    }
  }
}

/** dx from the sums that row_norm_grad_tiles left. Unit u is tile u % tiles of row u / tiles. */
export function row_norm_grad_dx(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<LongGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, columns = <usize>a.columns, tiles = (size + columns - 1) / columns;
  const means = <usize>a.mean, variances = <usize>a.variance, fromDy = a.activation != 0 ? <usize>a.dz : <usize>a.dy;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const row = u / tiles, column = (u % tiles) * columns, n = min(columns, size - column);
    const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean;
    const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + a.eps);
    let sum: f64 = 0, sumX: f64 = 0, p = <usize>a.terms + row * tiles * TERMS;
    for (let t: usize = 0; t < tiles; t++, p += TERMS) {
      sum += changetype<RowTerms>(p).sum; sumX += changetype<RowTerms>(p).sumX;
    }
    const from = (row * size + column) << 2, w = <usize>a.weight + (((row % groups) * size + column) << 2);
    const x = <usize>a.x + from, dy = fromDy + from, dx = <usize>a.dx + from;
    elementDx(x, dy, w, dx, n, h, mean - <f64>h, rstd, sum, sumX, 1 / a.size);
  }
}

@unmanaged class TileMerge { partial: f64; dWeight: f64; dBias: f64; blocks: f64; affine: f64; unit: f64; }

/** dWeight and dBias (each unless 0) from float32 sums at `partial` [blocks, 2, affine]. Unit u is `unit` elements of the affine. */
export function row_norm_merge_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<TileMerge>(args);
  const affine = <usize>a.affine, from = <usize>lo * <usize>a.unit, to = min(<usize>hi * <usize>a.unit, affine);
  const p = <usize>a.partial, blocks = <usize>a.blocks;
  if (a.dWeight != 0) addTiles(p, <usize>a.dWeight, from, to, affine, blocks);
  if (a.dBias != 0) addTiles(p + (affine << 2), <usize>a.dBias, from, to, affine, blocks);
}

/** y[i] = sum over blocks of p[block, 0, i], in float64. */
function addTiles(p: usize, y: usize, from: usize, to: usize, affine: usize, blocks: usize): void {
  const step = affine << 3;
  let i = from;
  for (; i + 8 <= to; i += 8) {
    let q = p + (i << 2), a = f64x2.splat(0), b = a, c = a, d = a;
    for (let k: usize = 0; k < blocks; k++, q += step) {
      const u = v128.load(q), v = v128.load(q, 16);
      a = f64x2.add(a, f64x2.promote_low_f32x4(u)); b = f64x2.add(b, high(u));
      c = f64x2.add(c, f64x2.promote_low_f32x4(v)); d = f64x2.add(d, high(v));
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

@inline function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }

@inline function narrow(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}
