// Backward of row normalization where weight differs from element to element (layer norm, root mean square).
import { elementsDz, SEEN } from "./lib_rows";
import { addShares, addSharesFine, addSharesPlain, elementSums, elementSumsPlain, settle } from "./lib_rows_grad";
import { elementDx, RowTerms, SHORT_BLOCK, SPAN, TERMS } from "./lib_row_terms";

@unmanaged class ElementGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; terms: f64; stride: f64; partial: f64;
  batch: f64; groups: f64; size: f64; eps: f64; block: f64; together: f64;
  activation: f64; alpha: f64; bias: f64; dz: f64;
}

/**
 * Unless `partial` is 0 it gets, for each block of batch entries, the sums of dy * xhat and of dy in float64:
 * [blocks, 2, groups * size]. A unit is `block` batch entries of one group. It takes `together` rows at a time: first their sums
 * and dx (unless 0), each row while it is in the first-level cache, then their shares of dWeight and dBias, element by
 * element down the rows. Stores of dWeight and dBias between those of dx would fill the store queue while dx waits for
 * memory. (Without dx the sums serve to read the rows as one stream, which is faster than down the rows.)
 * A thread has `stride` bytes at `terms`: a cache line, 2 * SPAN floats, and the terms of `together` rows.
 * With an activation the gradient to what went into it is written to `dz` and takes the place of dy, as in
 * row_norm_grad_runs. It may lie in dx, so that dx waits for the shares.
 */
export function row_norm_grad_elements(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ElementGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, block = <usize>a.block;
  const affine = groups * size, shares = a.partial != 0, hasDx = a.dx != 0;
  const means = <usize>a.mean, variances = <usize>a.variance, eps = a.eps, scale = 1 / a.size, batch = <usize>a.batch;
  const together = <usize>a.together, next = affine << 2, op = <i32>a.activation, alpha = <f32>a.alpha;
  const place = op ? <usize>a.dz : <usize>a.dy, toDy = <usize>a.dy - place;
  const sink = <usize>a.terms + <usize>worker * <usize>a.stride, floats = sink + 64, terms = floats + 8 * SPAN;
  memory.fill(floats, 0, 8 * SPAN);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const group = u % groups, b = u / groups, from = group * size;
    const w = <usize>a.weight + (from << 2), bias = <usize>a.bias + (from << 2);
    const dWeight = <usize>a.partial + ((2 * b * affine + from) << 3), dBias = dWeight + (affine << 3);
    if (shares) {
      memory.fill(dWeight, 0, size << 3);
      memory.fill(dBias, 0, size << 3);
    }
    const first = b * block, end = min(first + block, batch), p = (first * affine + from) << 2;
    let x = <usize>a.x + p, dy = place + p, dx = <usize>a.dx + p;
    for (let e = first; e < end; e += together) {
      const count = min(together, end - e), x0 = x, dy0 = dy, dx0 = dx;
      let fine = false;
      for (let i: usize = 0; i < count; i++, x += next, dy += next, dx += next) {
        const row = (e + i) * groups + group, t = changetype<RowTerms>(terms + i * TERMS);
        const mean = means ? load<f64>(means + (row << 3)) : 0, h = <f32>mean, rest = mean - <f64>h;
        const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps);
        t.hi = h; t.lo = <f32>rest; t.rstd = <f32>rstd;
        if (abs(t.lo) * t.rstd > SEEN) fine = true;
        if (op) elementsDz(x, w, bias, dy + toDy, dy, size, mean, <f32>rstd, means != 0, a.bias != 0, op - 1, alpha, sink);
        if (means) elementSums(x, dy, w, size, h, changetype<usize>(t) + offsetof<RowTerms>("sum"));
        else elementSumsPlain(x, dy, w, size, changetype<usize>(t) + offsetof<RowTerms>("sum"));
        if (hasDx && !op) elementDx(x, dy, w, dx, size, h, rest, rstd, t.sum, t.sumX, scale);
      }
      if (shares) {
        for (let c: usize = 0; c < size; c += SPAN) {
          const n = min(SPAN, size - c), o = c << 2;
          for (let i: usize = 0; i < count; i += SHORT_BLOCK) {
            const p = i * next + o, rows = min(SHORT_BLOCK, count - i), t = terms + i * TERMS, to = floats + 4 * SPAN;
            if (fine) addSharesFine(x0 + p, dy0 + p, next, rows, t, TERMS, floats, to, n);
            else if (means) addShares(x0 + p, dy0 + p, next, rows, t, TERMS, floats, to, n);
            else addSharesPlain(x0 + p, dy0 + p, next, rows, t, TERMS, floats, to, n);
          }
          settle(floats, dWeight + (c << 3), n);
          settle(floats + 4 * SPAN, dBias + (c << 3), n);
        }
      }
      if (!op || !hasDx) continue;
      for (let i: usize = 0, o: usize = 0; i < count; i++, o += next) {
        const row = (e + i) * groups + group, t = changetype<RowTerms>(terms + i * TERMS);
        const rest = means ? load<f64>(means + (row << 3)) - <f64>t.hi : 0;
        const rstd = 1 / sqrt<f64>(load<f64>(variances + (row << 3)) + eps);
        elementDx(x0 + o, dy0 + o, w, dx0 + o, size, t.hi, rest, rstd, t.sum, t.sumX, scale);
      }
    }
  }
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
