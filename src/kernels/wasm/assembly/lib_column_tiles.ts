// Tiles: rows x columns of float32 with neighbouring columns in neighbouring SIMD lanes, each column on its own.
import { CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE } from "./lib_column_sheet";
import { tree8 } from "./lib_moments";

/** Rows summed in float32 before the sums go to float64: eight additions in a row to each lane, after a tree over 8 rows. */
const STRIP: usize = 64;
/** Below this mean square, squares come near the subnormal range of float32 and lose digits. */
const TINY: f64 = 1e-30;

@inline function low(v: v128): v128 { return f64x2.promote_low_f32x4(v); }
@inline function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }
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
export function tileMoments(x: usize, rows: usize, width: usize, stride: usize, work: usize, mean: usize, m2: usize): void {
  const pad = (width + 3) & ~3, shift = work, s1 = work + (pad << 2), s2 = work + (pad << 3);
  firstShift(x, min<usize>(rows, 8), width, stride, shift);
  memory.fill(mean, 0, width << 3);
  memory.fill(m2, 0, width << 3);
  memory.fill(s1, 0, pad << 3);
  for (let row: usize = 0; row < rows; ) {
    const n = min<usize>(row == 0 ? 8 : min<usize>(row, STRIP), rows - row);
    let p = x + row * stride, left = n;
    for (; left >= 8; left -= 8, p += stride << 3) addRows8(p, width, stride, shift, s1, s2);
    for (; left > 0; left--, p += stride) addRow(p, width, shift, s1, s2);
    flushMoments(<f64>row, <f64>n, width, shift, s1, s2, mean, m2);
    row += n;
  }
  for (let j: usize = 0; j < width; j++) {
    const v = load<f64>(m2 + (j << 3));
    if (!(v < Infinity && (v == 0 || v > TINY * <f64>rows))) wideColumn(x + (j << 2), rows, stride, mean + (j << 3), m2 + (j << 3));
  }
}

function firstShift(x: usize, rows: usize, width: usize, stride: usize, shift: usize): void {
  const share = <f32>1 / <f32>rows, vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    let sum = v128.load(x + j), p = x + j;
    for (let r: usize = 1; r < rows; r++) { p += stride; sum = f32x4.add(sum, v128.load(p)); }
    v128.store(shift + j, f32x4.mul(sum, f32x4.splat(share)));
  }
  for (; j < width << 2; j += 4) {
    let sum = load<f32>(x + j), p = x + j;
    for (let r: usize = 1; r < rows; r++) { p += stride; sum += load<f32>(p); }
    store<f32>(shift + j, sum * share);
  }
}

function addRows8(p: usize, width: usize, stride: usize, shift: usize, s1: usize, s2: usize): void {
  const vectors = (width & ~3) << 2;
  const p1 = p + stride, p2 = p1 + stride, p3 = p2 + stride, p4 = p3 + stride, p5 = p4 + stride, p6 = p5 + stride, p7 = p6 + stride;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const s = v128.load(shift + j);
    const d0 = f32x4.sub(v128.load(p + j), s), d1 = f32x4.sub(v128.load(p1 + j), s);
    const d2 = f32x4.sub(v128.load(p2 + j), s), d3 = f32x4.sub(v128.load(p3 + j), s);
    const d4 = f32x4.sub(v128.load(p4 + j), s), d5 = f32x4.sub(v128.load(p5 + j), s);
    const d6 = f32x4.sub(v128.load(p6 + j), s), d7 = f32x4.sub(v128.load(p7 + j), s);
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), tree8(d0, d1, d2, d3, d4, d5, d6, d7)));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), tree8(
      f32x4.mul(d0, d0), f32x4.mul(d1, d1), f32x4.mul(d2, d2), f32x4.mul(d3, d3),
      f32x4.mul(d4, d4), f32x4.mul(d5, d5), f32x4.mul(d6, d6), f32x4.mul(d7, d7),
    )));
  }
  for (; j < width << 2; j += 4) {
    const s = load<f32>(shift + j);
    let a: f32 = 0, b: f32 = 0, q = p + j;
    for (let r = 0; r < 8; r++, q += stride) {
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

/** Merges a strip of `n` rows into the `count` rows before it (Chan), makes the new mean the shift, and clears the sums. */
function flushMoments(count: f64, n: f64, width: usize, shift: usize, s1: usize, s2: usize, mean: usize, m2: usize): void {
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

/** y = (x - CENTRE) * SCALE + OFFSET; the constants of a column lie `plane` bytes apart from `table`. */
export function tileApply(x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize): void {
  const vectors = (width & ~3) << 2, end = width << 2;
  const centre = table + CENTRE * plane, scale = table + SCALE * plane, offset = table + OFFSET * plane;
  for (; rows >= 4; rows -= 4, x += stride << 2, y += stride << 2) {
    const x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride, y1 = y + stride, y2 = y1 + stride, y3 = y2 + stride;
    for (let j: usize = 0; j < vectors; j += 16) {
      const c = v128.load(centre + j), k = v128.load(scale + j), o = v128.load(offset + j);
      v128.store(y + j, f32x4.add(f32x4.mul(f32x4.sub(v128.load(x + j), c), k), o));
      v128.store(y1 + j, f32x4.add(f32x4.mul(f32x4.sub(v128.load(x1 + j), c), k), o));
      v128.store(y2 + j, f32x4.add(f32x4.mul(f32x4.sub(v128.load(x2 + j), c), k), o));
      v128.store(y3 + j, f32x4.add(f32x4.mul(f32x4.sub(v128.load(x3 + j), c), k), o));
    }
    for (let j = vectors; j < end; j += 4) {
      const c = load<f32>(centre + j), k = load<f32>(scale + j), o = load<f32>(offset + j);
      store<f32>(y + j, (load<f32>(x + j) - c) * k + o);
      store<f32>(y1 + j, (load<f32>(x1 + j) - c) * k + o);
      store<f32>(y2 + j, (load<f32>(x2 + j) - c) * k + o);
      store<f32>(y3 + j, (load<f32>(x3 + j) - c) * k + o);
    }
  }
  for (; rows > 0; rows--, x += stride, y += stride) {
    for (let j: usize = 0; j < vectors; j += 16) {
      const d = f32x4.sub(v128.load(x + j), v128.load(centre + j));
      v128.store(y + j, f32x4.add(f32x4.mul(d, v128.load(scale + j)), v128.load(offset + j)));
    }
    for (let j = vectors; j < end; j += 4) {
      store<f32>(y + j, (load<f32>(x + j) - load<f32>(centre + j)) * load<f32>(scale + j) + load<f32>(offset + j));
    }
  }
}

/** Sums of dy and dy * (x - centre) of each column, added in float64. `work` holds 2 * padded width floats. */
export function tileSums(
  x: usize, dy: usize, rows: usize, width: usize, stride: usize, centre: usize, work: usize, sumDy: usize, sumDyX: usize,
): void {
  const pad = (width + 3) & ~3, s1 = work, s2 = work + (pad << 2);
  memory.fill(sumDy, 0, width << 3);
  memory.fill(sumDyX, 0, width << 3);
  memory.fill(s1, 0, pad << 3);
  for (let row: usize = 0; row < rows; ) {
    const n = min(STRIP, rows - row);
    let left = n;
    for (; left >= 4; left -= 4, x += stride << 2, dy += stride << 2) addProducts4(x, dy, width, stride, centre, s1, s2);
    for (; left > 0; left--, x += stride, dy += stride) addProducts(x, dy, width, centre, s1, s2);
    flushSums(width, s1, sumDy);
    flushSums(width, s2, sumDyX);
    row += n;
  }
}

function addProducts4(x: usize, dy: usize, width: usize, stride: usize, centre: usize, s1: usize, s2: usize): void {
  const vectors = (width & ~3) << 2;
  const x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride, dy1 = dy + stride, dy2 = dy1 + stride, dy3 = dy2 + stride;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const c = v128.load(centre + j);
    const g0 = v128.load(dy + j), g1 = v128.load(dy1 + j), g2 = v128.load(dy2 + j), g3 = v128.load(dy3 + j);
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), f32x4.add(f32x4.add(g0, g1), f32x4.add(g2, g3))));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), f32x4.add(
      f32x4.add(f32x4.mul(g0, f32x4.sub(v128.load(x + j), c)), f32x4.mul(g1, f32x4.sub(v128.load(x1 + j), c))),
      f32x4.add(f32x4.mul(g2, f32x4.sub(v128.load(x2 + j), c)), f32x4.mul(g3, f32x4.sub(v128.load(x3 + j), c))),
    )));
  }
  for (; j < width << 2; j += 4) {
    const c = load<f32>(centre + j);
    let a: f32 = 0, b: f32 = 0, p = x + j, q = dy + j;
    for (let r = 0; r < 4; r++, p += stride, q += stride) {
      const g = load<f32>(q);
      a += g; b += g * (load<f32>(p) - c);
    }
    store<f32>(s1 + j, load<f32>(s1 + j) + a);
    store<f32>(s2 + j, load<f32>(s2 + j) + b);
  }
}

function addProducts(x: usize, dy: usize, width: usize, centre: usize, s1: usize, s2: usize): void {
  const vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const g = v128.load(dy + j);
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), g));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), f32x4.mul(g, f32x4.sub(v128.load(x + j), v128.load(centre + j)))));
  }
  for (; j < width << 2; j += 4) {
    const g = load<f32>(dy + j);
    store<f32>(s1 + j, load<f32>(s1 + j) + g);
    store<f32>(s2 + j, load<f32>(s2 + j) + g * (load<f32>(x + j) - load<f32>(centre + j)));
  }
}

/** sum += s in float64, and s = 0. */
function flushSums(width: usize, s: usize, sum: usize): void {
  const zero = f32x4.splat(0);
  let j: usize = 0;
  for (; j + 4 <= width; j += 4) {
    const v = v128.load(s + (j << 2)), at = sum + (j << 3);
    v128.store(at, f64x2.add(v128.load(at), low(v)));
    v128.store(at, f64x2.add(v128.load(at, 16), high(v)), 16);
    v128.store(s + (j << 2), zero);
  }
  for (; j < width; j++) {
    const at = sum + (j << 3);
    store<f64>(at, load<f64>(at) + <f64>load<f32>(s + (j << 2)));
    store<f32>(s + (j << 2), 0);
  }
}

/** dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE */
export function tileGrad(
  x: usize, dy: usize, dx: usize, rows: usize, width: usize, stride: usize, table: usize, plane: usize,
): void {
  const vectors = (width & ~3) << 2, end = width << 2;
  const centre = table + CENTRE * plane, scale = table + SCALE * plane, offset = table + OFFSET * plane;
  const slope = table + SLOPE * plane, dyCentre = table + DY_CENTRE * plane;
  for (; rows >= 4; rows -= 4, x += stride << 2, dy += stride << 2, dx += stride << 2) {
    const x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride, dy1 = dy + stride, dy2 = dy1 + stride, dy3 = dy2 + stride;
    const dx1 = dx + stride, dx2 = dx1 + stride, dx3 = dx2 + stride;
    for (let j: usize = 0; j < vectors; j += 16) {
      const c = v128.load(centre + j), k = v128.load(scale + j), o = v128.load(offset + j);
      const s = v128.load(slope + j), e = v128.load(dyCentre + j);
      v128.store(dx + j, gradOf(v128.load(x + j), v128.load(dy + j), c, k, o, s, e));
      v128.store(dx1 + j, gradOf(v128.load(x1 + j), v128.load(dy1 + j), c, k, o, s, e));
      v128.store(dx2 + j, gradOf(v128.load(x2 + j), v128.load(dy2 + j), c, k, o, s, e));
      v128.store(dx3 + j, gradOf(v128.load(x3 + j), v128.load(dy3 + j), c, k, o, s, e));
    }
    for (let r: usize = 0; r < 4 * stride; r += stride) {
      for (let j = vectors; j < end; j += 4) {
        const g = (load<f32>(dy + r + j) - load<f32>(dyCentre + j)) * load<f32>(scale + j) + load<f32>(offset + j);
        store<f32>(dx + r + j, g - (load<f32>(x + r + j) - load<f32>(centre + j)) * load<f32>(slope + j));
      }
    }
  }
  for (; rows > 0; rows--, x += stride, dy += stride, dx += stride) {
    for (let j: usize = 0; j < vectors; j += 16) {
      v128.store(dx + j, gradOf(v128.load(x + j), v128.load(dy + j), v128.load(centre + j), v128.load(scale + j),
        v128.load(offset + j), v128.load(slope + j), v128.load(dyCentre + j)));
    }
    for (let j = vectors; j < end; j += 4) {
      const g = (load<f32>(dy + j) - load<f32>(dyCentre + j)) * load<f32>(scale + j) + load<f32>(offset + j);
      store<f32>(dx + j, g - (load<f32>(x + j) - load<f32>(centre + j)) * load<f32>(slope + j));
    }
  }
}

@inline export function gradOf(x: v128, dy: v128, centre: v128, scale: v128, offset: v128, slope: v128, dyCentre: v128): v128 {
  return f32x4.sub(
    f32x4.add(f32x4.mul(f32x4.sub(dy, dyCentre), scale), offset),
    f32x4.mul(f32x4.sub(x, centre), slope),
  );
}
