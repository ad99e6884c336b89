// Backward of row normalization with dx, dWeight and dBias at once, two rows at a time: each weight is that of one element.
import { elementsDz } from "./lib_rows";
import { addSharesFine, elementDxRow, elementSums, settle } from "./lib_rows_grad";
import {
  gradientOfPair, PAIR_TERMS, pairDx, pairDxFine, pairSums, PairTerms, statisticsOfPair,
} from "./lib_row_pairs";

@unmanaged class PairGrad {
  x: f64; dy: f64; weight: f64; mean: f64; variance: f64; dx: f64; partial: f64; scratch: f64; stride: f64;
  batch: f64; groups: f64; size: f64; eps: f64; block: f64; together: f64;
  activation: f64; alpha: f64; bias: f64; dz: f64;
}

/**
 * Rows whose shares are added in float32 before they go to float64: with the two of a pair added first, each lane sees 8
 * additions in a row.
 */
const FLOAT_ROWS: usize = 16;

/**
 * dx and, for each block of batch entries, the sums of dy * xhat and of dy in float64: `partial` [blocks, 2, groups * size].
 * Unit u is `block` batch entries of one group. `together` rows (even, a divisor of 16) have their sums taken first and their
 * dx and shares then, while they are in the first-level cache. A thread has `stride` bytes of scratch: a cache line, the
 * terms of `together` rows, and the float32 sums of dWeight and dBias.
 * With an activation the gradient to what went into it is written to `dz` (which may be dx) and takes the place of dy.
 */
export function row_norm_grad_pairs(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<PairGrad>(args);
  const size = <usize>a.size, groups = <usize>a.groups, block = <usize>a.block, batch = <usize>a.batch;
  const means = <usize>a.mean, variances = <usize>a.variance, eps = a.eps, scale = 1 / a.size;
  const together = <usize>a.together, affine = groups * size, next = affine << 2, step = groups << 3;
  const op = <i32>a.activation, alpha = <f32>a.alpha;
  const place = op ? <usize>a.dz : <usize>a.dy, toDy = <usize>a.dy - place;
  const sink = <usize>a.scratch + <usize>worker * <usize>a.stride, terms = sink + 64;
  const room = ((size << 2) + 63) & ~63;
  const floatWeight = terms + (((together >> 1) * PAIR_TERMS + 63) & ~63), floatBias = floatWeight + room;
  memory.fill(floatWeight, 0, room << 1);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const group = u % groups, b = u / groups, from = group * size, w = <usize>a.weight + (from << 2);
    const bias = <usize>a.bias + (from << 2), dWeight = <usize>a.partial + ((2 * b * affine + from) << 3);
    const dBias = dWeight + (affine << 3), first = b * block, end = min(first + block, batch);
    const at = (first * affine + from) << 2;
    let x = <usize>a.x + at, dy = place + at, dx = <usize>a.dx + at, row = first * groups + group;
    memory.fill(dWeight, 0, size << 3);
    memory.fill(dBias, 0, size << 3);
    for (let e = first; e < end; ) {
      const count = min(together, end - e), pairs = count >> 1;
      let s = row << 3;
      for (let i: usize = 0; i < pairs; i++, s += 2 * step) {
        statisticsOfPair(changetype<PairTerms>(terms + i * PAIR_TERMS), means ? means + s : 0, variances + s, step, eps);
      }
      if (op) {
        for (let i: usize = 0, o: usize = 0, r = row; i < count; i++, o += next, r += groups) {
          const mean = means ? load<f64>(means + (r << 3)) : 0;
          const rstd = <f32>(1 / sqrt<f64>(load<f64>(variances + (r << 3)) + eps));
          elementsDz(x + o, w, bias, dy + o + toDy, dy + o, size, mean, rstd, means != 0, a.bias != 0, op - 1, alpha, sink);
        }
      }
      for (let i: usize = 0, o: usize = 0; i < pairs; i++, o += 2 * next) {
        pairSums(x + o, dy + o, w, next, size, changetype<PairTerms>(terms + i * PAIR_TERMS));
      }
      s = row << 3;
      for (let i: usize = 0; i < pairs; i++, s += 2 * step) {
        gradientOfPair(changetype<PairTerms>(terms + i * PAIR_TERMS), means ? means + s : 0, variances + s, step, eps, scale);
      }
      for (let i: usize = 0; i < pairs; i++, x += 2 * next, dy += 2 * next, dx += 2 * next) {
        const t = changetype<PairTerms>(terms + i * PAIR_TERMS);
        if (t.fine) pairDxFine(x, dy, w, dx, next, size, t, floatWeight, floatBias);
        else pairDx(x, dy, w, dx, next, size, t, floatWeight, floatBias);
      }
      e += count; row += count * groups;
      if (count & 1) {
        const r = (row - groups) << 3;
        lastRow(x, dy, w, dx, size, means ? load<f64>(means + r) : 0, means != 0, load<f64>(variances + r) + eps, sink, floatWeight, floatBias);
      }
      if (e == end || ((e - first) & (FLOAT_ROWS - 1)) == 0) {
        settle(floatWeight, dWeight, size);
        settle(floatBias, dBias, size);
      }
    }
  }
}

/** What a row without a second does: dx, and its shares into the floats at `dWeight` and `dBias`. `square` is variance + eps; `place` takes 32 bytes. */
function lastRow(
  x: usize, dy: usize, w: usize, dx: usize, n: usize, mean: f64, centred: bool, square: f64, place: usize,
  dWeight: usize, dBias: usize,
): void {
  const hi = <f32>mean, rest = mean - <f64>hi, r = 1 / sqrt<f64>(square), scale = 1 / <f64>n;
  elementSums(x, dy, w, n, hi, place);
  const sum = centred ? load<f64>(place) : 0, k = (load<f64>(place, 8) - rest * sum) / square * scale;
  store<f32>(place, hi);
  store<f32>(place, <f32>rest, 4);
  store<f32>(place, <f32>r, 8);
  addSharesFine(x, dy, 0, 1, place, 16, dWeight, dBias, n);
  elementDxRow(x, dy, w, dx, n, hi, <f32>r, <f32>(k * r), <f32>(r * (sum * scale - rest * k)));
}
