// Tiles: rows x columns of float32 with neighbouring columns in neighbouring SIMD lanes, each column on its own.
import { rectify } from "./lib_activation";
import { CENTRE, DY_CENTRE, OFFSET, SCALE, SLOPE } from "./lib_column_sheet";
import { loadLanes, storeLanes } from "./lib_lanes";

/**
 * Rows summed in float32 before the sums go to float64: eight additions in a row to each lane, after a tree over 8
 * rows.
 */
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
export function tileMoments(
  x: usize, rows: usize, width: usize, stride: usize, work: usize, mean: usize, m2: usize,
): void {
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
    if (v < Infinity && (v == 0 || v > TINY * <f64>rows)) continue;
    wideColumn(x + (j << 2), rows, stride, mean + (j << 3), m2 + (j << 3));
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
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const s = v128.load(shift + j);
    let q = p + j;
    const d0 = f32x4.sub(v128.load(q), s); q += stride;
    const d1 = f32x4.sub(v128.load(q), s); q += stride;
    let a = f32x4.add(d0, d1), b = f32x4.add(f32x4.mul(d0, d0), f32x4.mul(d1, d1));
    const d2 = f32x4.sub(v128.load(q), s); q += stride;
    const d3 = f32x4.sub(v128.load(q), s); q += stride;
    a = f32x4.add(a, f32x4.add(d2, d3));
    b = f32x4.add(b, f32x4.add(f32x4.mul(d2, d2), f32x4.mul(d3, d3)));
    const d4 = f32x4.sub(v128.load(q), s); q += stride;
    const d5 = f32x4.sub(v128.load(q), s); q += stride;
    let e = f32x4.add(d4, d5), f = f32x4.add(f32x4.mul(d4, d4), f32x4.mul(d5, d5));
    const d6 = f32x4.sub(v128.load(q), s); q += stride;
    const d7 = f32x4.sub(v128.load(q), s);
    e = f32x4.add(e, f32x4.add(d6, d7));
    f = f32x4.add(f, f32x4.add(f32x4.mul(d6, d6), f32x4.mul(d7, d7)));
    v128.store(s1 + j, f32x4.add(v128.load(s1 + j), f32x4.add(a, e)));
    v128.store(s2 + j, f32x4.add(v128.load(s2 + j), f32x4.add(b, f)));
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

/**
 * y = (x - CENTRE) * SCALE + OFFSET; `table` has the constants, `step` bytes for four columns.
 *
 * `together`: four rows share each load of the constants, which takes two thirds of the time where all lies in the
 * cache; all four are read before one is written, since a load whose last 12 address bits are those of a store just
 * made waits for it. From memory narrow rows go one by one: four streams within a page or two defeat the prefetcher,
 * and the pass takes two or three times as long.
 */
export function tileApply(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, together: bool,
): void {
  if (together) {
    for (const four = stride << 2; rows >= 4; rows -= 4, x += four, y += four) {
      applyRows(x, y, width, stride, table, step, true, false);
    }
  }
  for (; rows > 0; rows--, x += stride, y += stride) applyRows(x, y, width, 0, table, step, false, false);
}

@inline function applyTo(x: v128, c: v128, k: v128, o: v128, relu: bool): v128 {
  const v = f32x4.add(f32x4.mul(f32x4.sub(x, c), k), o);
  return relu ? rectify(v) : v;
}

/** The first n lanes of one row, or of `four` of them `stride` bytes apart. */
@inline function applyLanes(
  x: usize, y: usize, n: usize, stride: usize, t: usize, four: bool, relu: bool,
): void {
  const c = v128.load(t, CENTRE), k = v128.load(t, SCALE), o = v128.load(t, OFFSET);
  const v0 = applyTo(loadLanes(x, n), c, k, o, relu);
  if (four) {
    const two = stride << 1, three = two + stride;
    const v1 = applyTo(loadLanes(x + stride, n), c, k, o, relu), v2 = applyTo(loadLanes(x + two, n), c, k, o, relu);
    const v3 = applyTo(loadLanes(x + three, n), c, k, o, relu);
    storeLanes(y + stride, n, v1);
    storeLanes(y + two, n, v2);
    storeLanes(y + three, n, v3);
  }
  storeLanes(y, n, v0);
}

/** One row, or `four` of them `stride` bytes apart; with `relu` what is negative becomes 0. */
@inline export function applyRows(
  x: usize, y: usize, width: usize, stride: usize, table: usize, step: usize, four: bool, relu: bool,
): void {
  for (const end = x + ((width & ~3) << 2); x < end; x += 16, y += 16, table += step) {
    applyLanes(x, y, 4, stride, table, four, relu);
  }
  if (width & 3) applyLanes(x, y, width & 3, stride, table, four, relu);
}

/**
 * Sums of dy and dy * (x - centre) of each column, float32 over eight rows only: terms of either sign leave a sum that
 * is small beside them, and each addition more rounds another time.
 */
export function tileSums(
  x: usize, dy: usize, rows: usize, width: usize, stride: usize, centre: usize, sumDy: usize, sumDyX: usize,
): void {
  memory.fill(sumDy, 0, width << 3);
  memory.fill(sumDyX, 0, width << 3);
  addSums(x, dy, rows, width, stride, centre, sumDy, sumDyX);
}

/** tileSums without the clearing. */
@inline export function addSums(
  x: usize, dy: usize, rows: usize, width: usize, stride: usize, centre: usize, sumDy: usize, sumDyX: usize,
): void {
  for (; rows >= 8; rows -= 8, x += stride << 3, dy += stride << 3) {
    addProducts8(x, dy, width, stride, centre, sumDy, sumDyX);
  }
  for (; rows > 0; rows--, x += stride, dy += stride) addProducts(x, dy, width, centre, sumDy, sumDyX);
}

/** Adds float32 lanes to four doubles. */
@inline function addWide(p: usize, v: v128): void {
  v128.store(p, f64x2.add(v128.load(p), low(v)));
  v128.store(p, f64x2.add(v128.load(p, 16), high(v)), 16);
}

function addProducts8(
  x: usize, dy: usize, width: usize, stride: usize, centre: usize, sumDy: usize, sumDyX: usize,
): void {
  const vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const c = v128.load(centre + j);
    let p = x + j, q = dy + j;
    const g0 = v128.load(q), e0 = f32x4.mul(g0, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g1 = v128.load(q), e1 = f32x4.mul(g1, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g2 = v128.load(q), e2 = f32x4.mul(g2, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g3 = v128.load(q), e3 = f32x4.mul(g3, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    let a = f32x4.add(f32x4.add(g0, g1), f32x4.add(g2, g3)), b = f32x4.add(f32x4.add(e0, e1), f32x4.add(e2, e3));
    const g4 = v128.load(q), e4 = f32x4.mul(g4, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g5 = v128.load(q), e5 = f32x4.mul(g5, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g6 = v128.load(q), e6 = f32x4.mul(g6, f32x4.sub(v128.load(p), c)); p += stride; q += stride;
    const g7 = v128.load(q), e7 = f32x4.mul(g7, f32x4.sub(v128.load(p), c));
    a = f32x4.add(a, f32x4.add(f32x4.add(g4, g5), f32x4.add(g6, g7)));
    b = f32x4.add(b, f32x4.add(f32x4.add(e4, e5), f32x4.add(e6, e7)));
    addWide(sumDy + (j << 1), a);
    addWide(sumDyX + (j << 1), b);
  }
  for (; j < width << 2; j += 4) {
    const c = load<f32>(centre + j);
    let a: f64 = 0, b: f64 = 0, p = x + j, q = dy + j;
    for (let r = 0; r < 8; r++, p += stride, q += stride) {
      const g = load<f32>(q);
      a += <f64>g; b += <f64>(g * (load<f32>(p) - c));
    }
    store<f64>(sumDy + (j << 1), load<f64>(sumDy + (j << 1)) + a);
    store<f64>(sumDyX + (j << 1), load<f64>(sumDyX + (j << 1)) + b);
  }
}

function addProducts(x: usize, dy: usize, width: usize, centre: usize, sumDy: usize, sumDyX: usize): void {
  const vectors = (width & ~3) << 2;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const g = v128.load(dy + j);
    addWide(sumDy + (j << 1), g);
    addWide(sumDyX + (j << 1), f32x4.mul(g, f32x4.sub(v128.load(x + j), v128.load(centre + j))));
  }
  for (; j < width << 2; j += 4) {
    const g = load<f32>(dy + j), e = g * (load<f32>(x + j) - load<f32>(centre + j));
    store<f64>(sumDy + (j << 1), load<f64>(sumDy + (j << 1)) + <f64>g);
    store<f64>(sumDyX + (j << 1), load<f64>(sumDyX + (j << 1)) + <f64>e);
  }
}

/** dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE, by rows as tileApply. */
export function tileGrad(
  x: usize, dy: usize, dx: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, together: bool,
): void {
  if (together) {
    for (const four = stride << 2; rows >= 4; rows -= 4, x += four, dy += four, dx += four) {
      gradRows(x, dy, dx, width, stride, table, step, true);
    }
  }
  for (; rows > 0; rows--, x += stride, dy += stride, dx += stride) gradRows(x, dy, dx, width, 0, table, step, false);
}

@inline function gradLanes(
  x: usize, dy: usize, dx: usize, n: usize, stride: usize, t: usize, four: bool,
): void {
  const c = v128.load(t, CENTRE), k = v128.load(t, SCALE), o = v128.load(t, OFFSET);
  const s = v128.load(t, SLOPE), e = v128.load(t, DY_CENTRE);
  const v0 = gradOf(loadLanes(x, n), loadLanes(dy, n), c, k, o, s, e);
  if (four) {
    const two = stride << 1, three = two + stride;
    const v1 = gradOf(loadLanes(x + stride, n), loadLanes(dy + stride, n), c, k, o, s, e);
    const v2 = gradOf(loadLanes(x + two, n), loadLanes(dy + two, n), c, k, o, s, e);
    const v3 = gradOf(loadLanes(x + three, n), loadLanes(dy + three, n), c, k, o, s, e);
    storeLanes(dx + stride, n, v1);
    storeLanes(dx + two, n, v2);
    storeLanes(dx + three, n, v3);
  }
  storeLanes(dx, n, v0);
}

@inline function gradRows(
  x: usize, dy: usize, dx: usize, width: usize, stride: usize, table: usize, step: usize, four: bool,
): void {
  for (const end = x + ((width & ~3) << 2); x < end; x += 16, dy += 16, dx += 16, table += step) {
    gradLanes(x, dy, dx, 4, stride, table, four);
  }
  if (width & 3) gradLanes(x, dy, dx, width & 3, stride, table, four);
}

@inline export function gradOf(
  x: v128, dy: v128, centre: v128, scale: v128, offset: v128, slope: v128, dyCentre: v128,
): v128 {
  return f32x4.sub(
    f32x4.add(f32x4.mul(f32x4.sub(dy, dyCentre), scale), offset),
    f32x4.mul(f32x4.sub(x, centre), slope),
  );
}
