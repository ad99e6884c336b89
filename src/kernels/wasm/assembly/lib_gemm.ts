// Register tiles and packing of matrix products. Packed panels hold, for each step of the summed axis, the 4 rows of A
// (or 8 columns of B) of a tile side by side, so that a tile reads both as plain streams.

@inline export function madd(acc: v128, a: v128, b: v128): v128 { return f32x4.add(acc, f32x4.mul(a, b)); }

/** What joins a tile's sums: what earlier blocks left in y, or a bias, null or of its columns or of its rows. */
export const COLUMN_BIAS: i32 = 0, ADD: i32 = 1, ROW_BIAS: i32 = 2;

/**
 * y[4, 8] (rows yRow bytes apart), or y += it, from packed panels a[kc, 4] and b[kc, 8]; `bias` is null or as `join` says;
 * kc > 0. 8 sums, 2 vectors of b and 1 of a take 11 of the 15 vector registers that V8 hands out on x64; 6x8, 4x16 and 3x16
 * tiles spill and run at half the speed. The loop tests at its end: tested at its head it is a fifth slower.
 */
export function gemmTile(a: usize, b: usize, kc: i32, y: usize, yRow: usize, join: i32, bias: usize): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const end = a + (<usize>kc << 4);
  do {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let v = v128.load32_splat(a);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load32_splat(a, 4);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load32_splat(a, 8);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load32_splat(a, 12);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    a += 16; b += 32;
  } while (a < end);
  const y1 = y + yRow, y2 = y1 + yRow, y3 = y2 + yRow;
  if (join == ADD) {
    s00 = f32x4.add(s00, v128.load(y)); s01 = f32x4.add(s01, v128.load(y, 16));
    s10 = f32x4.add(s10, v128.load(y1)); s11 = f32x4.add(s11, v128.load(y1, 16));
    s20 = f32x4.add(s20, v128.load(y2)); s21 = f32x4.add(s21, v128.load(y2, 16));
    s30 = f32x4.add(s30, v128.load(y3)); s31 = f32x4.add(s31, v128.load(y3, 16));
  } else if (bias && join == ROW_BIAS) {
    let v = v128.load32_splat(bias);
    s00 = f32x4.add(s00, v); s01 = f32x4.add(s01, v);
    v = v128.load32_splat(bias, 4);
    s10 = f32x4.add(s10, v); s11 = f32x4.add(s11, v);
    v = v128.load32_splat(bias, 8);
    s20 = f32x4.add(s20, v); s21 = f32x4.add(s21, v);
    v = v128.load32_splat(bias, 12);
    s30 = f32x4.add(s30, v); s31 = f32x4.add(s31, v);
  } else if (bias) {
    const t0 = v128.load(bias), t1 = v128.load(bias, 16);
    s00 = f32x4.add(s00, t0); s01 = f32x4.add(s01, t1);
    s10 = f32x4.add(s10, t0); s11 = f32x4.add(s11, t1);
    s20 = f32x4.add(s20, t0); s21 = f32x4.add(s21, t1);
    s30 = f32x4.add(s30, t0); s31 = f32x4.add(s31, t1);
  }
  v128.store(y, s00); v128.store(y, s01, 16);
  v128.store(y1, s10); v128.store(y1, s11, 16);
  v128.store(y2, s20); v128.store(y2, s21, 16);
  v128.store(y3, s30); v128.store(y3, s31, 16);
}

/** gemmTile with b[kc, 8] and y[4, 8] both in rows `step` bytes apart. */
export function gemmTileStrided(a: usize, b: usize, step: usize, kc: i32, y: usize, add: i32): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const end = a + (<usize>kc << 4);
  do {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let v = v128.load32_splat(a);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load32_splat(a, 4);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load32_splat(a, 8);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load32_splat(a, 12);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    a += 16; b += step;
  } while (a < end);
  const y1 = y + step, y2 = y1 + step, y3 = y2 + step;
  if (add) {
    s00 = f32x4.add(s00, v128.load(y)); s01 = f32x4.add(s01, v128.load(y, 16));
    s10 = f32x4.add(s10, v128.load(y1)); s11 = f32x4.add(s11, v128.load(y1, 16));
    s20 = f32x4.add(s20, v128.load(y2)); s21 = f32x4.add(s21, v128.load(y2, 16));
    s30 = f32x4.add(s30, v128.load(y3)); s31 = f32x4.add(s31, v128.load(y3, 16));
  }
  v128.store(y, s00); v128.store(y, s01, 16);
  v128.store(y1, s10); v128.store(y1, s11, 16);
  v128.store(y2, s20); v128.store(y2, s21, 16);
  v128.store(y3, s30); v128.store(y3, s31, 16);
}

/** Its left half. */
export function gemmHalfTileStored(a: usize, b: usize, step: usize, kc: i32, y: usize, add: i32): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = a + (<usize>kc << 4);
  do {
    const b0 = v128.load(b);
    s0 = madd(s0, v128.load32_splat(a), b0);
    s1 = madd(s1, v128.load32_splat(a, 4), b0);
    s2 = madd(s2, v128.load32_splat(a, 8), b0);
    s3 = madd(s3, v128.load32_splat(a, 12), b0);
    a += 16; b += step;
  } while (a < end);
  const y1 = y + step, y2 = y1 + step, y3 = y2 + step;
  if (add) {
    s0 = f32x4.add(s0, v128.load(y)); s1 = f32x4.add(s1, v128.load(y1));
    s2 = f32x4.add(s2, v128.load(y2)); s3 = f32x4.add(s3, v128.load(y3));
  }
  v128.store(y, s0); v128.store(y1, s1); v128.store(y2, s2); v128.store(y3, s3);
}

/** The left half of gemmTile, for the last columns: y[4, 4] in rows of 8, overwritten. */
export function gemmHalfTile(a: usize, b: usize, kc: i32, y: usize): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = a + (<usize>kc << 4);
  do {
    const b0 = v128.load(b);
    s0 = madd(s0, v128.load32_splat(a), b0);
    s1 = madd(s1, v128.load32_splat(a, 4), b0);
    s2 = madd(s2, v128.load32_splat(a, 8), b0);
    s3 = madd(s3, v128.load32_splat(a, 12), b0);
    a += 16; b += 32;
  } while (a < end);
  v128.store(y, s0); v128.store(y, s1, 32); v128.store(y, s2, 64); v128.store(y, s3, 96);
}

/** Moves the valid part of a scratch tile (rows of 8) to y, which it joins as in gemmTile. */
function moveTile(tile: usize, y: usize, yRow: usize, rows: i32, columns: i32, join: i32, bias: usize): void {
  const across: usize = join == ROW_BIAS ? 0 : 4, down: usize = join == ROW_BIAS ? 4 : 0;
  for (let i = 0; i < rows; i++, tile += 32, y += yRow, bias += bias ? down : 0) {
    for (let j: usize = 0, k = bias; j < <usize>columns << 2; j += 4, k += bias ? across : 0) {
      let sum = load<f32>(tile + j);
      if (join == ADD) sum += load<f32>(y + j);
      else if (bias) sum += load<f32>(k);
      store<f32>(y + j, sum);
    }
  }
}

/**
 * y[rows, columns] from packed panels of 4 rows of A, [kc, 4] each, and a packed strip of B: up to 16 columns, two panels
 * of 8. `tile` is scratch memory of 32 floats for tiles that are not whole.
 */
export function stripTiles(
  a: usize, strip: usize, kc: i32, y: usize, yRow: usize, rows: i32, columns: i32, join: i32, bias: usize, tile: usize,
): void {
  const down: usize = bias && join == ROW_BIAS ? 16 : 0, across: usize = bias && join == COLUMN_BIAS ? 32 : 0;
  for (let i = 0; i < rows; i += 4, a += <usize>kc << 4, y += yRow << 2, bias += down) {
    for (let j = 0, b = strip, to = y, shift = bias; j < columns; j += 8, b += <usize>kc << 5, to += 32, shift += across) {
      const height = min(4, rows - i), width = min(8, columns - j);
      if (height == 4 && width == 8) {
        gemmTile(a, b, kc, to, yRow, join, shift);
        continue;
      }
      if (width > 4) gemmTile(a, b, kc, tile, 32, COLUMN_BIAS, 0);
      else gemmHalfTile(a, b, kc, tile);
      moveTile(tile, to, yRow, height, width, join, shift);
    }
  }
}

/**
 * dst[p, 0..3] (steps `step` bytes apart) = src at p * depth + lane * lane index. One of `lane` and `depth` is 4 bytes:
 * the matrix is read in the order it has, transposed or not. Lanes from `valid` on become zeros.
 */
export function packQuad(src: usize, lane: usize, depth: usize, valid: i32, kc: i32, dst: usize, step: usize): void {
  if (valid < 4) {
    for (let p = 0; p < kc; p++, src += depth, dst += step) {
      for (let i = 0; i < 4; i++) store<f32>(dst + (<usize>i << 2), i < valid ? load<f32>(src + <usize>i * lane) : 0);
    }
    return;
  }
  if (lane == 4) {
    for (let p = 0; p < kc; p++, src += depth, dst += step) v128.store(dst, v128.load(src));
    return;
  }
  const lane2 = lane + lane, lane3 = lane2 + lane;
  let p = 0;
  for (; p + 4 <= kc; p += 4, src += 16) {
    const r0 = v128.load(src), r1 = v128.load(src + lane), r2 = v128.load(src + lane2), r3 = v128.load(src + lane3);
    const low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(dst, v128.shuffle<f64>(low01, low23, 0, 2));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(low01, low23, 1, 3));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(high01, high23, 0, 2));
    dst += step;
    v128.store(dst, v128.shuffle<f64>(high01, high23, 1, 3));
    dst += step;
  }
  for (; p < kc; p++, src += 4, dst += step) {
    store<f32>(dst, load<f32>(src));
    store<f32>(dst, load<f32>(src + lane), 4);
    store<f32>(dst, load<f32>(src + lane2), 8);
    store<f32>(dst, load<f32>(src + lane3), 12);
  }
}

/** 16 columns of B: two panels of 8, `panel` bytes apart. */
export function packStrip(b: usize, lane: usize, depth: usize, columns: i32, kc: i32, dst: usize, panel: usize): void {
  if (columns == 16 && lane == 4) {
    // Whole cache lines at once: with rows a power of two apart, a second visit would find the line evicted.
    for (let p = 0; p < kc; p++, b += depth, dst += 32) {
      const v2 = v128.load(b, 32), v3 = v128.load(b, 48);
      v128.store(dst, v128.load(b));
      v128.store(dst, v128.load(b, 16), 16);
      v128.store(dst + panel, v2);
      v128.store(dst + panel, v3, 16);
    }
    return;
  }
  for (let j = 0; j < columns; j += 4) {
    const quad = dst + (j >= 8 ? panel : 0) + (<usize>(j & 4) << 2);
    packQuad(b + <usize>j * lane, lane, depth, min(4, columns - j), kc, quad, 32);
  }
}
