import { madd } from "./lib_gemm";

// Rows of a depthwise convolution: lanes run along the width. Lengths n are rounded up to whole quads.

/** y = bias + three taps of three rows side by side (a, b, c): nine weights stay in registers. n >= 4; the last quad may overlap. */
export function rows3x3(a: usize, b: usize, c: usize, w: usize, y: usize, n: i32, bias: f32): void {
  const w0 = v128.load32_splat(w), w1 = v128.load32_splat(w, 4), w2 = v128.load32_splat(w, 8);
  const w3 = v128.load32_splat(w, 12), w4 = v128.load32_splat(w, 16), w5 = v128.load32_splat(w, 20);
  const w6 = v128.load32_splat(w, 24), w7 = v128.load32_splat(w, 28), w8 = v128.load32_splat(w, 32);
  const last = <usize>(n - 4) << 2;
  for (let i: usize = 0; ; i += 16) {
    i = min(i, last);
    let s = f32x4.add(f32x4.splat(bias), f32x4.mul(w0, v128.load(a + i)));
    let t = f32x4.mul(w1, v128.load(a + i, 4));
    s = madd(s, w2, v128.load(a + i, 8));
    t = madd(t, w3, v128.load(b + i));
    s = madd(s, w4, v128.load(b + i, 4));
    t = madd(t, w5, v128.load(b + i, 8));
    s = madd(s, w6, v128.load(c + i));
    t = madd(t, w7, v128.load(c + i, 4));
    s = madd(s, w8, v128.load(c + i, 8));
    v128.store(y + i, f32x4.add(s, t));
    if (i == last) break;
  }
}

/** y += three taps, each with a place of its own, so that strides are as good as none. */
export function row3(a: usize, b: usize, c: usize, w: usize, y: usize, n: i32): void {
  const w0 = v128.load32_splat(w), w1 = v128.load32_splat(w, 4), w2 = v128.load32_splat(w, 8);
  for (let i: usize = 0; i < <usize>n << 2; i += 16) {
    let s = madd(v128.load(y + i), w0, v128.load(a + i));
    s = madd(s, w1, v128.load(b + i));
    v128.store(y + i, madd(s, w2, v128.load(c + i)));
  }
}

/** y += five neighbouring taps. */
export function row5(a: usize, w: usize, y: usize, n: i32): void {
  const w0 = v128.load32_splat(w), w1 = v128.load32_splat(w, 4), w2 = v128.load32_splat(w, 8);
  const w3 = v128.load32_splat(w, 12), w4 = v128.load32_splat(w, 16);
  for (const end = y + (<usize>n << 2); y < end; a += 16, y += 16) {
    let s = madd(v128.load(y), w0, v128.load(a)), t = f32x4.mul(w1, v128.load(a, 4));
    s = madd(s, w2, v128.load(a, 8));
    t = madd(t, w3, v128.load(a, 12));
    v128.store(y, f32x4.add(madd(s, w4, v128.load(a, 16)), t));
  }
}

/** y += seven neighbouring taps. */
export function row7(a: usize, w: usize, y: usize, n: i32): void {
  const w0 = v128.load32_splat(w), w1 = v128.load32_splat(w, 4), w2 = v128.load32_splat(w, 8);
  const w3 = v128.load32_splat(w, 12), w4 = v128.load32_splat(w, 16), w5 = v128.load32_splat(w, 20);
  const w6 = v128.load32_splat(w, 24);
  for (const end = y + (<usize>n << 2); y < end; a += 16, y += 16) {
    let s = madd(v128.load(y), w0, v128.load(a)), t = f32x4.mul(w1, v128.load(a, 4));
    s = madd(s, w2, v128.load(a, 8));
    t = madd(t, w3, v128.load(a, 12));
    s = madd(s, w4, v128.load(a, 16));
    t = madd(t, w5, v128.load(a, 20));
    v128.store(y, f32x4.add(madd(s, w6, v128.load(a, 24)), t));
  }
}

/** The lanes of a row's last quad, which ends at n, that no quad before it has. */
@inline function newLanes(n: i32): v128 {
  const left = n & 3;
  if (left == 0) return i32x4.splat(-1);
  return left == 1 ? i32x4(0, 0, 0, -1) : left == 2 ? i32x4(0, 0, -1, -1) : i32x4(0, -1, -1, -1);
}

@inline function addLanes(sum: usize, v: v128): void {
  const pairs = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  store<f64>(sum, load<f64>(sum) + <f64>(f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1)));
}

/**
 * Three sums (float64) += dot products of `rows` rows of dy (n >= 4 long, dyRow bytes apart) with rows of x at a, b and c,
 * xRow bytes apart.
 */
export function dots3(
  dy: usize, dyRow: usize, rows: i32, n: i32, a: usize, b: usize, c: usize, xRow: usize, sum: usize,
): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0;
  const last = <usize>(n - 4) << 2, mask = newLanes(n);
  for (; rows > 0; rows--, dy += dyRow, a += xRow, b += xRow, c += xRow) {
    for (let i: usize = 0; i < last; i += 16) {
      const v = v128.load(dy + i);
      s0 = madd(s0, v, v128.load(a + i)); s1 = madd(s1, v, v128.load(b + i)); s2 = madd(s2, v, v128.load(c + i));
    }
    const v = v128.and(v128.load(dy + last), mask);
    s0 = madd(s0, v, v128.load(a + last)); s1 = madd(s1, v, v128.load(b + last)); s2 = madd(s2, v, v128.load(c + last));
  }
  addLanes(sum, s0); addLanes(sum + 8, s1); addLanes(sum + 16, s2);
}

/** The same for two sums of neighbouring taps: what is left of five or seven. */
export function dots2(
  dy: usize, dyRow: usize, rows: i32, n: i32, a: usize, xRow: usize, sum: usize,
): void {
  let s0 = f32x4.splat(0), s1 = s0;
  const last = <usize>(n - 4) << 2, mask = newLanes(n);
  for (; rows > 0; rows--, dy += dyRow, a += xRow) {
    for (let i: usize = 0; i < last; i += 16) {
      const v = v128.load(dy + i);
      s0 = madd(s0, v, v128.load(a + i)); s1 = madd(s1, v, v128.load(a + i, 4));
    }
    const v = v128.and(v128.load(dy + last), mask);
    s0 = madd(s0, v, v128.load(a + last)); s1 = madd(s1, v, v128.load(a + last, 4));
  }
  addLanes(sum, s0); addLanes(sum + 8, s1);
}
