// Tiles: rows x columns of float32 with neighbouring columns in neighbouring SIMD lanes, each column on its own.
import { rectify } from "./lib_activation";
import { CENTRE, DY_CENTRE, GRAD_STEP, OFFSET, SCALE, SLOPE } from "./lib_column_sheet";
import { loadLanes, storeLanes } from "./lib_lanes";

/**
 * Rows summed in float32 before the sums go to float64: eight additions in a row to each lane, after a tree over 4
 * rows.
 */
const STRIP: usize = 32;
/** Below this mean square, squares come near the subnormal range of float32 and lose digits. */
const TINY: f64 = 1e-30;

@inline function low(v: v128): v128 { return f64x2.promote_low_f32x4(v); }
@inline function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }
@inline function narrow(a: v128, b: v128): v128 {
  return i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}

// Rows that are gone through together lie far apart, a fourth or half of the tile: each is then a stream from memory
// that the prefetcher follows. Neighbouring rows share a page, which defeats it: 25 MB in rows of 1 KiB took 0.5 ns an
// element two neighbours at a time, and 0.2 two far rows at a time (y from x, Zen 5).

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

/**
 * y = (x - CENTRE) * SCALE + OFFSET; `table` has the constants, `step` bytes for four columns.
 *
 * Where all lies in the cache, `together`, four rows a fourth of the tile apart share each load of the constants, and
 * are all read before one is written, since a load whose last 12 address bits are those of a store just made waits for
 * it. From memory one row at a time is faster: 25 MB in 0.18 to 0.20 ns an element, by two far rows in 0.20 to 0.26.
 */
export function tileApply(
  x: usize, y: usize, rows: usize, width: usize, stride: usize, table: usize, step: usize, together: bool,
): void {
  if (together) {
    const part = rows >> 2, far = part * stride;
    for (let i: usize = 0; i < part; i++, x += stride, y += stride) applyRows(x, y, width, far, table, step, 4, false);
    x += 3 * far; y += 3 * far;
    rows &= 3;
  }
  for (; rows > 0; rows--, x += stride, y += stride) applyRows(x, y, width, 0, table, step, 1, false);
}

@inline function applyTo(x: v128, c: v128, k: v128, o: v128, relu: bool): v128 {
  const v = f32x4.add(f32x4.mul(f32x4.sub(x, c), k), o);
  return relu ? rectify(v) : v;
}

/** The first n lanes of `many` rows (1 or 4) `far` bytes apart. */
@inline function applyLanes(x: usize, y: usize, n: usize, far: usize, t: usize, many: i32, relu: bool): void {
  const c = v128.load(t, CENTRE), k = v128.load(t, SCALE), o = v128.load(t, OFFSET);
  const v0 = applyTo(loadLanes(x, n), c, k, o, relu);
  if (many > 1) {
    const two = far << 1, three = two + far, v1 = applyTo(loadLanes(x + far, n), c, k, o, relu);
    const v2 = applyTo(loadLanes(x + two, n), c, k, o, relu), v3 = applyTo(loadLanes(x + three, n), c, k, o, relu);
    storeLanes(y + two, n, v2);
    storeLanes(y + three, n, v3);
    storeLanes(y + far, n, v1);
  }
  storeLanes(y, n, v0);
}

/** `many` rows (1 or 4) `far` bytes apart; with `relu` what is negative becomes 0. One row goes by eight columns. */
@inline export function applyRows(
  x: usize, y: usize, width: usize, far: usize, table: usize, step: usize, many: i32, relu: bool,
): void {
  if (many == 1) {
    for (const end = x + ((width & ~7) << 2); x < end; x += 32, y += 32, table += step) {
      const c = v128.load(table, CENTRE), k = v128.load(table, SCALE), o = v128.load(table, OFFSET);
      v128.store(y, applyTo(v128.load(x), c, k, o, relu));
      table += step;
      const c2 = v128.load(table, CENTRE), k2 = v128.load(table, SCALE), o2 = v128.load(table, OFFSET);
      v128.store(y, applyTo(v128.load(x, 16), c2, k2, o2, relu), 16);
    }
    width &= 7;
  }
  for (const end = x + ((width & ~3) << 2); x < end; x += 16, y += 16, table += step) {
    applyLanes(x, y, 4, far, table, many, relu);
  }
  if (width & 3) applyLanes(x, y, width & 3, far, table, many, relu);
}

/**
 * Sums of dy and dy * (x - centre) of each column, float32 over four rows only: terms of either sign leave a sum that
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
  const fourth = rows >> 2, far = fourth * stride;
  for (let i: usize = 0; i < fourth; i++, x += stride, dy += stride) {
    addProducts4(x, dy, width, far, centre, sumDy, sumDyX);
  }
  x += 3 * far; dy += 3 * far;
  for (rows &= 3; rows > 0; rows--, x += stride, dy += stride) addProducts(x, dy, width, centre, sumDy, sumDyX);
}

/** Adds float32 lanes to four doubles. */
@inline function addWide(p: usize, v: v128): void {
  v128.store(p, f64x2.add(v128.load(p), low(v)));
  v128.store(p, f64x2.add(v128.load(p, 16), high(v)), 16);
}

function addProducts4(
  x: usize, dy: usize, width: usize, far: usize, centre: usize, sumDy: usize, sumDyX: usize,
): void {
  const vectors = (width & ~3) << 2, two = far << 1, three = two + far;
  let j: usize = 0;
  for (; j < vectors; j += 16) {
    const c = v128.load(centre + j), p = x + j, q = dy + j;
    const g0 = v128.load(q), e0 = f32x4.mul(g0, f32x4.sub(v128.load(p), c));
    const g1 = v128.load(q + far), e1 = f32x4.mul(g1, f32x4.sub(v128.load(p + far), c));
    const g2 = v128.load(q + two), e2 = f32x4.mul(g2, f32x4.sub(v128.load(p + two), c));
    const g3 = v128.load(q + three), e3 = f32x4.mul(g3, f32x4.sub(v128.load(p + three), c));
    addWide(sumDy + (j << 1), f32x4.add(f32x4.add(g0, g1), f32x4.add(g2, g3)));
    addWide(sumDyX + (j << 1), f32x4.add(f32x4.add(e0, e1), f32x4.add(e2, e3)));
  }
  for (; j < width << 2; j += 4) {
    const c = load<f32>(centre + j);
    let a: f64 = 0, b: f64 = 0, p = x + j, q = dy + j;
    for (let r = 0; r < 4; r++, p += far, q += far) {
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

/** Rows of up to so many columns are four lines of the cache: two neighbours are one stream from memory. */
const NEAR: usize = 64;

/**
 * dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE, by two rows, which share the loads of the constants,
 * and eight columns. Dropping the two centres, a third of the arithmetic, gains nothing: memory is what it waits for.
 */
export function tileGrad(
  x: usize, dy: usize, dx: usize, rows: usize, width: usize, stride: usize, table: usize,
): void {
  const pairs = rows >> 1, near = width <= NEAR, far = near ? stride : pairs * stride, step = near ? stride << 1 : stride;
  for (let i: usize = 0; i < pairs; i++, x += step, dy += step, dx += step) gradPair(x, dy, dx, width, far, table);
  if (!(rows & 1)) return;
  const rest = near ? <usize>0 : far;
  gradRow(x + rest, dy + rest, dx + rest, width, table);
}

@inline function gradPair(x: usize, dy: usize, dx: usize, width: usize, far: usize, t: usize): void {
  for (const end = x + ((width & ~7) << 2); x < end; x += 32, dy += 32, dx += 32, t += 2 * GRAD_STEP) {
    const x1 = x + far, dy1 = dy + far, dx1 = dx + far;
    const c = v128.load(t, CENTRE), k = v128.load(t, SCALE), o = v128.load(t, OFFSET), s = v128.load(t, SLOPE),
      e = v128.load(t, DY_CENTRE);
    const v = gradOf(v128.load(x), v128.load(dy), c, k, o, s, e);
    v128.store(dx1, gradOf(v128.load(x1), v128.load(dy1), c, k, o, s, e));
    v128.store(dx, v);
    // The stores above keep TurboFan from loading these while the constants before are still needed.
    const c2 = v128.load(t, CENTRE + GRAD_STEP), k2 = v128.load(t, SCALE + GRAD_STEP),
      o2 = v128.load(t, OFFSET + GRAD_STEP), s2 = v128.load(t, SLOPE + GRAD_STEP), e2 = v128.load(t, DY_CENTRE + GRAD_STEP);
    const w = gradOf(v128.load(x, 16), v128.load(dy, 16), c2, k2, o2, s2, e2);
    v128.store(dx1, gradOf(v128.load(x1, 16), v128.load(dy1, 16), c2, k2, o2, s2, e2), 16);
    v128.store(dx, w, 16);
  }
  if (!(width & 7)) return;
  gradRow(x, dy, dx, width & 7, t);
  gradRow(x + far, dy + far, dx + far, width & 7, t);
}

function gradRow(x: usize, dy: usize, dx: usize, width: usize, t: usize): void {
  for (const end = x + ((width & ~3) << 2); x < end; x += 16, dy += 16, dx += 16, t += GRAD_STEP) {
    gradLanes(x, dy, dx, 4, t);
  }
  if (width & 3) gradLanes(x, dy, dx, width & 3, t);
}

@inline function gradLanes(x: usize, dy: usize, dx: usize, n: usize, t: usize): void {
  storeLanes(dx, n, gradOf(
    loadLanes(x, n), loadLanes(dy, n), v128.load(t, CENTRE), v128.load(t, SCALE), v128.load(t, OFFSET),
    v128.load(t, SLOPE), v128.load(t, DY_CENTRE),
  ));
}

@inline export function gradOf(
  x: v128, dy: v128, centre: v128, scale: v128, offset: v128, slope: v128, dyCentre: v128,
): v128 {
  return f32x4.sub(
    f32x4.add(f32x4.mul(f32x4.sub(dy, dyCentre), scale), offset),
    f32x4.mul(f32x4.sub(x, centre), slope),
  );
}
