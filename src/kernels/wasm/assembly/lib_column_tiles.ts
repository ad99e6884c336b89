// Tiles: rows x columns of float32 with neighbouring columns in neighbouring SIMD lanes, each column on its own.
import { rectify } from "./lib_activation";
import { CENTRE, DY_CENTRE, GRAD_STEP, OFFSET, SCALE, SLOPE } from "./lib_column_sheet";
import { loadLanes, storeLanes } from "./lib_lanes";

@inline export function low(v: v128): v128 { return f64x2.promote_low_f32x4(v); }
@inline export function high(v: v128): v128 { return f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)); }

// Rows that are gone through together lie far apart, a fourth or half of the tile: each is then a stream from memory
// that the prefetcher follows. Neighbouring rows share a page, which defeats it: 25 MB in rows of 1 KiB took 0.5 ns an
// element two neighbours at a time, and 0.2 two far rows at a time (y from x, Zen 5).

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

/** Rows of up to so many columns are four lines of the cache: two neighbours are one stream from memory. */
const NEAR: usize = 64;

/**
 * Sums of dy and dy * (x - centre) of each column. Behind the centres there is room for two float32 sums of each
 * column.
 *
 * In the cache, `together`, by four rows a fourth of the tile apart, which add to the doubles. From memory that is too
 * many streams, and rows go by pairs as in tileGrad: 25 MB in rows of 256 bytes 0.23 ns an element, by four far ones
 * 0.30. Pairs add to float32 sums, eight of them and no more, since equal terms all round the same way.
 */
export function tileSums(
  x: usize, dy: usize, rows: usize, width: usize, stride: usize, centre: usize, sumDy: usize, sumDyX: usize,
  together: bool,
): void {
  memory.fill(sumDy, 0, width << 3);
  memory.fill(sumDyX, 0, width << 3);
  if (together) addSums(x, dy, rows, width, stride, centre, sumDy, sumDyX);
  else addPairs(x, dy, rows, width, stride, centre, sumDy, sumDyX);
}

/** Four rows at a time, without clearing the sums. */
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

function addPairs(
  x: usize, dy: usize, rows: usize, width: usize, stride: usize, centre: usize, sumDy: usize, sumDyX: usize,
): void {
  const pairs = rows >> 1, near = width <= NEAR, far = near ? stride : pairs * stride,
    step = near ? stride << 1 : stride;
  const pad = (width + 3) & ~3, s1 = centre + (pad << 2), s2 = s1 + (pad << 2);
  memory.fill(s1, 0, pad << 3);
  for (let i: usize = 0; i < pairs; ) {
    for (const end = min(pairs, i + 8); i < end; i++, x += step, dy += step) {
      addPair(x, dy, width, far, centre, s1, s2);
    }
    flush(width, s1, sumDy);
    flush(width, s2, sumDyX);
  }
  if (!(rows & 1)) return;
  const rest = near ? <usize>0 : far;
  addProducts(x + rest, dy + rest, width, centre, sumDy, sumDyX);
}

/** Adds float32 sums to those in float64 and clears them. */
@inline function flush(width: usize, s: usize, sum: usize): void {
  const zero = f32x4.splat(0);
  for (const end = s + ((width & ~3) << 2); s < end; s += 16, sum += 32) {
    addWide(sum, v128.load(s));
    v128.store(s, zero);
  }
  for (const end = s + ((width & 3) << 2); s < end; s += 4, sum += 8) {
    store<f64>(sum, load<f64>(sum) + <f64>load<f32>(s));
    store<f32>(s, 0);
  }
}

@inline function addPair(x: usize, dy: usize, width: usize, far: usize, centre: usize, s1: usize, s2: usize): void {
  for (const end = x + ((width & ~7) << 2); x < end; x += 32, dy += 32, centre += 32, s1 += 32, s2 += 32) {
    const x1 = x + far, dy1 = dy + far, c = v128.load(centre), a = v128.load(dy), b = v128.load(dy1);
    const u = f32x4.mul(a, f32x4.sub(v128.load(x), c)), v = f32x4.mul(b, f32x4.sub(v128.load(x1), c));
    v128.store(s1, f32x4.add(v128.load(s1), f32x4.add(a, b)));
    v128.store(s2, f32x4.add(v128.load(s2), f32x4.add(u, v)));
    const c2 = v128.load(centre, 16), a2 = v128.load(dy, 16), b2 = v128.load(dy1, 16);
    const u2 = f32x4.mul(a2, f32x4.sub(v128.load(x, 16), c2)), v2 = f32x4.mul(b2, f32x4.sub(v128.load(x1, 16), c2));
    v128.store(s1, f32x4.add(v128.load(s1, 16), f32x4.add(a2, b2)), 16);
    v128.store(s2, f32x4.add(v128.load(s2, 16), f32x4.add(u2, v2)), 16);
  }
  for (const end = x + ((width & 7) << 2); x < end; x += 4, dy += 4, centre += 4, s1 += 4, s2 += 4) {
    const c = load<f32>(centre), a = load<f32>(dy), b = load<f32>(dy + far);
    store<f32>(s1, load<f32>(s1) + (a + b));
    store<f32>(s2, load<f32>(s2) + (a * (load<f32>(x) - c) + b * (load<f32>(x + far) - c)));
  }
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

/**
 * dx = (dy - DY_CENTRE) * SCALE + OFFSET - (x - CENTRE) * SLOPE, by two rows, which share the loads of the constants,
 * and eight columns. Dropping the two centres, a third of the arithmetic, gains nothing: memory is what it waits for.
 */
export function tileGrad(
  x: usize, dy: usize, dx: usize, rows: usize, width: usize, stride: usize, table: usize,
): void {
  const pairs = rows >> 1, near = width <= NEAR, far = near ? stride : pairs * stride,
    step = near ? stride << 1 : stride;
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
      o2 = v128.load(t, OFFSET + GRAD_STEP), s2 = v128.load(t, SLOPE + GRAD_STEP),
      e2 = v128.load(t, DY_CENTRE + GRAD_STEP);
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
