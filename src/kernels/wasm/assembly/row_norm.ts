// Normalization over the rows of [rows, size]: layer, group and instance norm channels-first, and root mean square.
// A row's statistics are float64; 1 / sqrt(variance + eps) is worked out in float64 wherever it is needed.
import { Moments, addRun, sumSquares } from "./lib_moments";
import { addRows, elements, elementsActivate, runActivate, runCentred, runPlain } from "./lib_rows";

/**
 * Longest row, in bytes, whose successor is loaded while its own y is computed, so that memory is busy meanwhile.
 * Longer rows would push one another out of the first-level cache.
 */
const AHEAD: usize = 4096;

@unmanaged class Forward {
  x: f64; weight: f64; bias: f64; y: f64; mean: f64; variance: f64; moments: f64;
  rows: f64; size: f64; groups: f64; inner: f64; eps: f64; unit: f64;
  /** Code of the activation that y goes through, plus one; 0 for none. */
  activation: f64; alpha: f64;
  /** Unless 0, what is normalized is x + residual, which goes to `sum`. */
  residual: f64; sum: f64;
}

/** Statistics and y of the rows. Unit u is the rows [u * unit, (u + 1) * unit). */
export function row_norm(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Forward>(args);
  if (a.activation != 0 || a.residual != 0) rowsWithMore(a, lo, hi, worker);
  else plainRows(a, lo, hi, worker);
}

function plainRows(a: Forward, lo: i32, hi: i32, worker: i32): void { normalizeRows(a, lo, hi, worker, false); }
function rowsWithMore(a: Forward, lo: i32, hi: i32, worker: i32): void { normalizeRows(a, lo, hi, worker, true); }

/** `more`: an activation, or a residual. */
@inline function normalizeRows(a: Forward, lo: i32, hi: i32, worker: i32, more: bool): void {
  const size = <usize>a.size, groups = <usize>a.groups, inner = <usize>a.inner, unit = <usize>a.unit, count = a.size;
  const channels = size / inner, weight = <usize>a.weight, bias = <usize>a.bias, eps = a.eps, bytes = size << 2;
  const means = <usize>a.mean, variances = <usize>a.variance, end = min(<usize>hi * unit, <usize>a.rows);
  const m = changetype<Moments>(<usize>a.moments + (<usize>worker << 6));
  const sink = <usize>a.moments + (<usize>worker << 6) + 32;
  const op = more ? <i32>a.activation : 0;
  const added: usize = more ? <usize>a.residual : 0, fromX = <usize>a.x, base = added ? <usize>a.sum : fromX;
  let row = <usize>lo * unit, x = base + row * bytes, y = <usize>a.y + row * bytes;
  for (; row < end; row++, x += bytes, y += bytes) {
    const ahead = row + 1 < end && bytes <= AHEAD ? bytes : 0;
    if (added) addRows(fromX + (x - base), added + (x - base), x, size);
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
      if (op) elementsActivate(x, w, b, y, size, mean, r, means != 0, bias != 0, op - 1, <f32>a.alpha, ahead, sink);
      else elements(x, w, b, y, size, mean, r, means != 0, bias != 0, ahead, sink);
    } else if (!weight && !bias) {
      if (op) runActivate(x, y, size, mean, <f32>rstd, 0, op - 1, <f32>a.alpha, ahead, sink);
      else if (means) runCentred(x, y, size, mean, <f32>rstd, 0, ahead, sink);
      else runPlain(x, y, size, <f32>rstd, ahead, sink);
    } else {
      let w = weight + affine, b = bias + affine, from = x, to = y;
      for (let c: usize = 0; c < channels; c++, from += inner << 2, to += inner << 2, w += 4, b += 4) {
        const scale = weight ? rstd * <f64>load<f32>(w) : rstd, shift: f32 = bias ? load<f32>(b) : 0;
        if (op) runActivate(from, to, inner, mean, <f32>scale, shift, op - 1, <f32>a.alpha, ahead, sink);
        else runCentred(from, to, inner, mean, <f32>scale, shift, ahead, sink);
      }
    }
  }
}
