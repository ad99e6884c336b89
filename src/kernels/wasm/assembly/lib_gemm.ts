// Register tiles and packing of matrix products. Packed panels hold, for each step of the summed axis, the 4 rows of A
// (or 8 columns of B) of a tile side by side, so that a tile reads both as plain streams.

@inline function madd(acc: v128, a: v128, b: v128): v128 { return f32x4.add(acc, f32x4.mul(a, b)); }

/** What becomes of a finished sum: joins what earlier blocks left in y, or starts y, from the bias if there is one. */
@inline function finish(sum: v128, y: usize, add: i32, bias: usize): void {
  if (add) sum = f32x4.add(sum, v128.load(y));
  else if (bias) sum = f32x4.add(sum, v128.load(bias));
  v128.store(y, sum);
}

/**
 * y[4, 8] (rows yRow bytes apart) from packed panels a[kc, 4] and b[kc, 8]; `bias` is 8 columns or null.
 * 8 sums, 2 vectors of b and 1 of a take 11 of the 15 vector registers that V8 hands out on x64; 6x8, 4x16 and 3x16
 * tiles spill and run at half the speed.
 */
export function gemmTile(a: usize, b: usize, kc: i32, y: usize, yRow: usize, add: i32, bias: usize): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  for (const end = a + (<usize>kc << 4); a < end; a += 16, b += 32) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let v = v128.load32_splat(a);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load32_splat(a, 4);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load32_splat(a, 8);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load32_splat(a, 12);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
  }
  const bias1 = bias ? bias + 16 : 0;
  finish(s00, y, add, bias); finish(s01, y + 16, add, bias1);
  y += yRow;
  finish(s10, y, add, bias); finish(s11, y + 16, add, bias1);
  y += yRow;
  finish(s20, y, add, bias); finish(s21, y + 16, add, bias1);
  y += yRow;
  finish(s30, y, add, bias); finish(s31, y + 16, add, bias1);
}

/** The left half of gemmTile, for the last columns: y[4, 4] in rows of 8, overwritten. */
export function gemmHalfTile(a: usize, b: usize, kc: i32, y: usize): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  for (const end = a + (<usize>kc << 4); a < end; a += 16, b += 32) {
    const b0 = v128.load(b);
    s0 = madd(s0, v128.load32_splat(a), b0);
    s1 = madd(s1, v128.load32_splat(a, 4), b0);
    s2 = madd(s2, v128.load32_splat(a, 8), b0);
    s3 = madd(s3, v128.load32_splat(a, 12), b0);
  }
  v128.store(y, s0); v128.store(y, s1, 32); v128.store(y, s2, 64); v128.store(y, s3, 96);
}

/** Moves the valid part of a scratch tile (rows of 8) to y, as `finish` does. */
export function moveTile(tile: usize, y: usize, yRow: usize, rows: i32, columns: i32, add: i32, bias: usize): void {
  for (let i = 0; i < rows; i++, tile += 32, y += yRow) {
    for (let j: usize = 0; j < <usize>columns << 2; j += 4) {
      let sum = load<f32>(tile + j);
      if (add) sum += load<f32>(y + j);
      else if (bias) sum += load<f32>(bias + j);
      store<f32>(y + j, sum);
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
