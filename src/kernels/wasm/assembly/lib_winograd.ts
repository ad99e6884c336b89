// Transforms of Winograd's minimal filtering F(2x2, 3x3) and F(3x3, 2x2) (Lavin & Gray 2015): a tile of 4x4 inputs becomes
// 4x4 numbers, each a plain product away from the 4x4 numbers of a 3x3 kernel (or of 2x2 outputs), so 16 products do the
// work of 36. Lanes run over four tiles that lie side by side.

@inline function evens(a: v128, b: v128): v128 { return v128.shuffle<f32>(a, b, 0, 2, 4, 6); }
@inline function odds(a: v128, b: v128): v128 { return v128.shuffle<f32>(a, b, 1, 3, 5, 7); }

/**
 * V = B' d B for four tiles, their first row at src, rows `row` bytes apart. Component i, j goes to dst + (4 i + j) * step.
 * Reads 10 floats of each row.
 */
export function inputTiles(src: usize, row: usize, dst: usize, step: usize): void {
  const step2 = step + step, step3 = step2 + step, step4 = step2 + step2;
  let a = v128.load(src), b = v128.load(src, 16), c = v128.load(src, 8), d = v128.load(src, 24);
  let x0 = evens(a, b), x1 = odds(a, b), x2 = evens(c, d), x3 = odds(c, d);
  const p0 = f32x4.sub(x0, x2), p1 = f32x4.add(x1, x2), p2 = f32x4.sub(x2, x1), p3 = f32x4.sub(x1, x3);
  src += row;
  const one = src;
  src += row;
  a = v128.load(src); b = v128.load(src, 16); c = v128.load(src, 8); d = v128.load(src, 24);
  x0 = evens(a, b); x1 = odds(a, b); x2 = evens(c, d); x3 = odds(c, d);
  const r0 = f32x4.sub(x0, x2), r1 = f32x4.add(x1, x2), r2 = f32x4.sub(x2, x1), r3 = f32x4.sub(x1, x3);
  v128.store(dst, f32x4.sub(p0, r0));
  v128.store(dst + step, f32x4.sub(p1, r1));
  v128.store(dst + step2, f32x4.sub(p2, r2));
  v128.store(dst + step3, f32x4.sub(p3, r3));
  dst += step4;
  a = v128.load(one); b = v128.load(one, 16); c = v128.load(one, 8); d = v128.load(one, 24);
  x0 = evens(a, b); x1 = odds(a, b); x2 = evens(c, d); x3 = odds(c, d);
  const q0 = f32x4.sub(x0, x2), q1 = f32x4.add(x1, x2), q2 = f32x4.sub(x2, x1), q3 = f32x4.sub(x1, x3);
  v128.store(dst, f32x4.add(q0, r0));
  v128.store(dst + step, f32x4.add(q1, r1));
  v128.store(dst + step2, f32x4.add(q2, r2));
  v128.store(dst + step3, f32x4.add(q3, r3));
  dst += step4;
  v128.store(dst, f32x4.sub(r0, q0));
  v128.store(dst + step, f32x4.sub(r1, q1));
  v128.store(dst + step2, f32x4.sub(r2, q2));
  v128.store(dst + step3, f32x4.sub(r3, q3));
  dst += step4;
  src += row;
  a = v128.load(src); b = v128.load(src, 16); c = v128.load(src, 8); d = v128.load(src, 24);
  x0 = evens(a, b); x1 = odds(a, b); x2 = evens(c, d); x3 = odds(c, d);
  v128.store(dst, f32x4.sub(q0, f32x4.sub(x0, x2)));
  v128.store(dst + step, f32x4.sub(q1, f32x4.add(x1, x2)));
  v128.store(dst + step2, f32x4.sub(q2, f32x4.sub(x2, x1)));
  v128.store(dst + step3, f32x4.sub(q3, f32x4.sub(x1, x3)));
}

/** Y = A' m A + bias for four tiles, component i, j at m + (4 i + j) * step: two rows of 8 floats at y and y + row. */
export function outputTiles(m: usize, step: usize, bias: f32, y: usize, row: usize): void {
  const step4 = step << 2, step8 = step << 3, step12 = step4 + step8, shift = f32x4.splat(bias);
  let m1 = v128.load(m + step4), m2 = v128.load(m + step8);
  const s0 = f32x4.add(f32x4.add(v128.load(m), m1), m2), t0 = f32x4.sub(f32x4.sub(m1, m2), v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const s1 = f32x4.add(f32x4.add(v128.load(m), m1), m2), t1 = f32x4.sub(f32x4.sub(m1, m2), v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const s2 = f32x4.add(f32x4.add(v128.load(m), m1), m2), t2 = f32x4.sub(f32x4.sub(m1, m2), v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const s3 = f32x4.add(f32x4.add(v128.load(m), m1), m2), t3 = f32x4.sub(f32x4.sub(m1, m2), v128.load(m + step12));
  let even = f32x4.add(f32x4.add(f32x4.add(s0, s1), s2), shift);
  let odd = f32x4.add(f32x4.sub(f32x4.sub(s1, s2), s3), shift);
  v128.store(y, v128.shuffle<f32>(even, odd, 0, 4, 1, 5));
  v128.store(y, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
  even = f32x4.add(f32x4.add(f32x4.add(t0, t1), t2), shift);
  odd = f32x4.add(f32x4.sub(f32x4.sub(t1, t2), t3), shift);
  v128.store(y + row, v128.shuffle<f32>(even, odd, 0, 4, 1, 5));
  v128.store(y + row, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
}

@inline function half(a: v128): v128 { return f32x4.mul(a, f32x4.splat(0.5)); }

/** Four components of one row of G g G' from three numbers g of four kernels. */
@inline function kernelRow(g0: v128, g1: v128, g2: v128, dst: usize, step: usize, first: usize, last: usize): void {
  const ends = f32x4.add(g0, g2);
  v128.store(dst + first, g0);
  v128.store(dst + step, half(f32x4.add(ends, g1)));
  v128.store(dst + step + step, half(f32x4.sub(ends, g1)));
  v128.store(dst + last, g2);
}

/**
 * U = G g G' for four 3x3 kernels, `row` bytes apart. Component i, j goes to dst + (4 i + j) * step. A kernel turned by
 * 180 degrees, as the input gradient needs it, has the first and last component exchanged along both axes.
 */
export function kernelTiles(g: usize, row: usize, valid: i32, flip: bool, dst: usize, step: usize): void {
  const last: usize = valid > 1 ? row : 0, g1 = g + last, g2 = g1 + (valid > 2 ? row : 0), g3 = g2 + (valid > 3 ? row : 0);
  let r0 = v128.load(g), r1 = v128.load(g1), r2 = v128.load(g2), r3 = v128.load(g3);
  let low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
  let high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  const a0 = v128.shuffle<f64>(low01, low23, 0, 2), a1 = v128.shuffle<f64>(low01, low23, 1, 3);
  const a2 = v128.shuffle<f64>(high01, high23, 0, 2), b0 = v128.shuffle<f64>(high01, high23, 1, 3);
  r0 = v128.load(g, 16); r1 = v128.load(g1, 16); r2 = v128.load(g2, 16); r3 = v128.load(g3, 16);
  low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5); low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
  high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7); high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  const b1 = v128.shuffle<f64>(low01, low23, 0, 2), b2 = v128.shuffle<f64>(low01, low23, 1, 3);
  const c0 = v128.shuffle<f64>(high01, high23, 0, 2), c1 = v128.shuffle<f64>(high01, high23, 1, 3);
  const c2 = f32x4(load<f32>(g, 32), load<f32>(g1, 32), load<f32>(g2, 32), load<f32>(g3, 32));
  const step3 = step * 3, rows = step << 2, rows3 = rows * 3;
  const left: usize = flip ? step3 : 0, right: usize = flip ? 0 : step3;
  kernelRow(a0, a1, a2, dst + (flip ? rows3 : 0), step, left, right);
  const e0 = f32x4.add(a0, c0), e1 = f32x4.add(a1, c1), e2 = f32x4.add(a2, c2);
  kernelRow(half(f32x4.add(e0, b0)), half(f32x4.add(e1, b1)), half(f32x4.add(e2, b2)), dst + rows, step, left, right);
  kernelRow(half(f32x4.sub(e0, b0)), half(f32x4.sub(e1, b1)), half(f32x4.sub(e2, b2)), dst + rows + rows, step, left, right);
  kernelRow(c0, c1, c2, dst + (flip ? 0 : rows3), step, left, right);
}
