// Moments of the columns of a tile.
import { high, low } from "./lib_column_tiles";

/**
 * Rows summed in float32 before the sums go to float64: eight additions in a row to each lane, after a tree over 4
 * rows.
 */
const STRIP: usize = 32;
/** Below this mean square, squares come near the subnormal range of float32 and lose digits. */
const TINY: f64 = 1e-30;

@inline function narrow(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}

/**
 * Mean and sum of squared deviations of each column of [rows, width], rows `stride` bytes apart.
 *
 * Strips of rows are summed about a shift: for the first 8 rows their own mean, after that the mean of all rows before.
 * A strip is never longer than what came before it, so of the squares about that older mean at most half belongs to
 * the distance between the means: whatever the order of the rows, nothing cancels, and no row is read twice.
 * `work` holds 3 * padded width floats: shift and the two sums.
 */
export function tileMoments(
  x: usize, rows: usize, width: usize, stride: usize, work: usize, mean: usize, m2: usize,
): void {
  const pad = (width + 3) & ~3, shift = work, s1 = work + (pad << 2), s2 = work + (pad << 3);
  const fourth = rows >> 2, far = fourth * stride, left = rows & 3;
  if (fourth) firstShift(x, min<usize>(fourth, 2), 4, width, stride, far, shift);
  else firstShift(x, 1, rows, width, 0, stride, shift);
  memory.fill(mean, 0, width << 3);
  memory.fill(m2, 0, width << 3);
  memory.fill(s1, 0, pad << 3);
  for (let row: usize = 0; row < fourth; ) {
    const n = min<usize>(row == 0 ? 2 : min<usize>(row, STRIP >> 2), fourth - row);
    let p = x + row * stride;
    for (let i: usize = 0; i < n; i++, p += stride) addRows4(p, width, far, shift, s1, s2);
    flushMoments(<f64>(4 * row), <f64>(4 * n), width, shift, s1, s2, mean, m2);
    row += n;
  }
  if (left) {
    let p = x + 4 * far;
    for (let i: usize = 0; i < left; i++, p += stride) addRow(p, width, shift, s1, s2);
    flushMoments(<f64>(4 * fourth), <f64>left, width, shift, s1, s2, mean, m2);
  }
  for (let j: usize = 0; j < width; j++) {
    const v = load<f64>(m2 + (j << 3));
    if (v < Infinity && (v == 0 || v > TINY * <f64>rows)) continue;
    wideColumn(x + (j << 2), rows, stride, mean + (j << 3), m2 + (j << 3));
  }
}

/** The mean of `n` rows `far` bytes apart, and of those `stride` bytes behind them if `times` is 2. */
function firstShift(x: usize, times: usize, n: usize, width: usize, stride: usize, far: usize, shift: usize): void {
  const share = <f32>1 / <f32>(n * times), vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    let sum = f32x4.splat(0);
    for (let t: usize = 0, from = x + j; t < times; t++, from += stride) {
      for (let r: usize = 0, p = from; r < n; r++, p += far) sum = f32x4.add(sum, v128.load(p));
    }
    v128.store(shift + j, f32x4.mul(sum, f32x4.splat(share)));
  }
  for (; j < width << 2; j += 4) {
    let sum: f32 = 0;
    for (let t: usize = 0, from = x + j; t < times; t++, from += stride) {
      for (let r: usize = 0, p = from; r < n; r++, p += far) sum += load<f32>(p);
    }
    store<f32>(shift + j, sum * share);
  }
}

/** Four rows `far` bytes apart. */
function addRows4(p: usize, width: usize, far: usize, shift: usize, s1: usize, s2: usize): void {
  const vectors = (width & ~3) << 2, two = far << 1, three = two + far;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const s = v128.load(shift + j), q = p + j;
    const d0 = f32x4.sub(v128.load(q), s), d1 = f32x4.sub(v128.load(q + far), s);
    const d2 = f32x4.sub(v128.load(q + two), s), d3 = f32x4.sub(v128.load(q + three), s);
    const a = f32x4.add(f32x4.add(d0, d1), f32x4.add(d2, d3));
    const b = f32x4.add(
      f32x4.add(f32x4.mul(d0, d0), f32x4.mul(d1, d1)), f32x4.add(f32x4.mul(d2, d2), f32x4.mul(d3, d3)),
    );
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), a));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), b));
  }
  for (; j < width << 2; j += 4) {
    const s = load<f32>(shift + j);
    let a: f32 = 0, b: f32 = 0, q = p + j;
    for (let r = 0; r < 4; r++, q += far) {
      const d = load<f32>(q) - s;
      a += d; b += d * d;
    }
    store<f32>(s1 + j, load<f32>(s1 + j) + a);
    store<f32>(s2 + j, load<f32>(s2 + j) + b);
  }
}

function addRow(p: usize, width: usize, shift: usize, s1: usize, s2: usize): void {
  const vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const d = f32x4.sub(v128.load(p + j), v128.load(shift + j));
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), d));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), f32x4.mul(d, d)));
  }
  for (; j < width << 2; j += 4) {
    const d = load<f32>(p + j) - load<f32>(shift + j);
    store<f32>(s1 + j, load<f32>(s1 + j) + d);
    store<f32>(s2 + j, load<f32>(s2 + j) + d * d);
  }
}

/**
 * Merges a strip of `n` rows into the `count` rows before it (Chan), makes the new mean the shift, and clears the sums.
 */
function flushMoments(
  count: f64, n: f64, width: usize, shift: usize, s1: usize, s2: usize, mean: usize, m2: usize,
): void {
  const share = 1 / n, part = n / (count + n), cross = count * n / (count + n);
  const share2 = f64x2.splat(share), part2 = f64x2.splat(part), cross2 = f64x2.splat(cross), zero = f32x4.splat(0);
  let j: usize = 0;
  for (; j + 4 <= width; j += 4) {
    const s = v128.load(shift + (j << 2)), a = v128.load(s1 + (j << 2)), b = v128.load(s2 + (j << 2));
    const aLow = low(a), aHigh = high(a), at = mean + (j << 3), at2 = m2 + (j << 3);
    const oldLow = v128.load(at), oldHigh = v128.load(at, 16);
    const dLow = f64x2.sub(f64x2.add(low(s), f64x2.mul(aLow, share2)), oldLow);
    const dHigh = f64x2.sub(f64x2.add(high(s), f64x2.mul(aHigh, share2)), oldHigh);
    const newLow = f64x2.add(oldLow, f64x2.mul(dLow, part2)), newHigh = f64x2.add(oldHigh, f64x2.mul(dHigh, part2));
    const ownLow = f64x2.sub(low(b), f64x2.mul(f64x2.mul(aLow, aLow), share2));
    const ownHigh = f64x2.sub(high(b), f64x2.mul(f64x2.mul(aHigh, aHigh), share2));
    v128.store(at2, f64x2.add(v128.load(at2), f64x2.add(ownLow, f64x2.mul(f64x2.mul(dLow, dLow), cross2))));
    v128.store(at2, f64x2.add(v128.load(at2, 16), f64x2.add(ownHigh, f64x2.mul(f64x2.mul(dHigh, dHigh), cross2))), 16);
    v128.store(at, newLow);
    v128.store(at, newHigh, 16);
    v128.store(shift + (j << 2), narrow(newLow, newHigh));
    v128.store(s1 + (j << 2), zero);
    v128.store(s2 + (j << 2), zero);
  }
  for (; j < width; j++) {
    const a = <f64>load<f32>(s1 + (j << 2)), at = mean + (j << 3), at2 = m2 + (j << 3), old = load<f64>(at);
    const d = <f64>load<f32>(shift + (j << 2)) + a * share - old;
    store<f64>(at2, load<f64>(at2) + (<f64>load<f32>(s2 + (j << 2)) - a * a * share + d * d * cross));
    store<f64>(at, old + d * part);
    store<f32>(shift + (j << 2), <f32>(old + d * part));
    store<f32>(s1 + (j << 2), 0);
    store<f32>(s2 + (j << 2), 0);
  }
}

/** Two passes in float64 for a column whose squares left the range of float32, or that holds NaN or infinity. */
function wideColumn(x: usize, rows: usize, stride: usize, mean: usize, m2: usize): void {
  let sum: f64 = 0, squares: f64 = 0, p = x;
  for (let r: usize = 0; r < rows; r++, p += stride) sum += <f64>load<f32>(p);
  const mid = sum / <f64>rows;
  p = x;
  for (let r: usize = 0; r < rows; r++, p += stride) {
    const d = <f64>load<f32>(p) - mid;
    squares += d * d;
  }
  store<f64>(mean, mid);
  store<f64>(m2, squares);
}
