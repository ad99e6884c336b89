import { sums } from "./lib_conv";
import { madd } from "./lib_gemm";

// Transforms of Winograd's minimal filtering F(2x2, 3x3) and F(3x3, 2x2) (Lavin & Gray 2015): a tile of 4x4 inputs becomes
// 4x4 numbers, each a plain product away from the 4x4 numbers of a 3x3 kernel (or of 2x2 outputs), so 16 products do the
// work of 36. Lanes run over four tiles that lie side by side.

@inline function evens(a: v128, b: v128): v128 { return v128.shuffle<f32>(a, b, 0, 2, 4, 6); }
@inline function odds(a: v128, b: v128): v128 { return v128.shuffle<f32>(a, b, 1, 3, 5, 7); }

/** A mask for swizzle: lane l becomes element first + l of a row of which the vector at `from` is loaded, or 0 outside the row. */
@inline function window(first: i32, from: i32, width: i32): v128 {
  const lane = i32x4(0, 1, 2, 3), at = i32x4.add(i32x4.splat(first), lane);
  const inside = v128.and(i32x4.ge_s(at, i32x4.splat(0)), i32x4.lt_s(at, i32x4.splat(width)));
  const bytes = i32x4.mul(i32x4.sub(at, i32x4.splat(from)), i32x4.splat(0x04040404));
  return v128.or(i32x4.add(bytes, i32x4.splat(0x03020100)), v128.not(inside));
}

/** Where to load a vector that has what exists of the elements first to first + 3, without leaving the row. */
@inline function within(first: i32, width: i32): i32 { return min(max(first, 0), width - 4); }

/** One row of d B for four tiles, from the 10 floats that it has. */
@inline function rowQuad(low: v128, high: v128, next: v128, dst: usize): void {
  const x0 = evens(low, high), x1 = odds(low, high);
  const x2 = v128.shuffle<f32>(x0, next, 1, 2, 3, 4), x3 = v128.shuffle<f32>(x1, next, 1, 2, 3, 5);
  v128.store(dst, f32x4.sub(x0, x2));
  v128.store(dst, f32x4.add(x1, x2), 16);
  v128.store(dst, f32x4.sub(x2, x1), 32);
  v128.store(dst, f32x4.sub(x1, x3), 48);
}

/**
 * d B for four tiles: rows h to h + n - 1 of a plane (zeros outside it) from element `first` on, 4 vectors a row to dst.
 * Rows are read where they lie; width >= 4.
 */
function rowTiles(plane: usize, height: i32, width: i32, h: i32, n: i32, first: i32, dst: usize): void {
  const a = within(first, width), b = within(first + 4, width), c = within(first + 8, width);
  const aBytes = <usize>a << 2, bBytes = <usize>b << 2, cBytes = <usize>c << 2;
  const edge = a != first || c != first + 8;
  let aMask = f32x4.splat(0), bMask = aMask, cMask = aMask;
  if (edge) { aMask = window(first, a, width); bMask = window(first + 4, b, width); cMask = window(first + 8, c, width); }
  for (const end = h + n; h < end; h++, dst += 64) {
    if (<u32>h >= <u32>height) {
      const zero = f32x4.splat(0);
      v128.store(dst, zero); v128.store(dst, zero, 16); v128.store(dst, zero, 32); v128.store(dst, zero, 48);
      continue;
    }
    const row = plane + ((<usize>h * <usize>width) << 2);
    let low = v128.load(row + aBytes), high = v128.load(row + bBytes), next = v128.load(row + cBytes);
    if (edge) { low = v128.swizzle(low, aMask); high = v128.swizzle(high, bMask); next = v128.swizzle(next, cMask); }
    rowQuad(low, high, next, dst);
  }
}

/** One row for all quads of a wide image, `quad` bytes apart; no masks where a quad lies inside the row. */
function wideRow(
  plane: usize, height: i32, width: i32, h: i32, first: i32, columns: i32, dst: usize, quad: usize,
): void {
  const row = plane + ((<usize>h * <usize>width) << 2), exists = <u32>h < <u32>height;
  for (let j = 0; j < columns; j += 4, dst += quad) {
    j = min(j, columns - 4);
    const from = first + 2 * j;
    if (exists && from >= 0 && from + 12 <= width) {
      const at = row + (<usize>from << 2);
      rowQuad(v128.load(at), v128.load(at, 16), v128.load(at, 32), dst);
    } else {
      rowTiles(plane, height, width, h, 1, from, dst);
    }
  }
}

/** One component of a row of d B: a column of four numbers of B' d B, from rows 64 bytes apart. */
@inline function columnTiles(src: usize, dst: usize, step4: usize): void {
  const p = v128.load(src), q = v128.load(src, 64), r = v128.load(src, 128), s = v128.load(src, 192);
  v128.store(dst, f32x4.sub(p, r));
  dst += step4;
  v128.store(dst, f32x4.add(q, r));
  dst += step4;
  v128.store(dst, f32x4.sub(r, q));
  v128.store(dst + step4, f32x4.sub(q, s));
}

/** V = B' d B for four tiles from four rows of d B. Component i, j goes to dst + (4 i + j) * step. */
function inputTiles(src: usize, dst: usize, step: usize): void {
  const step4 = step << 2;
  columnTiles(src, dst, step4);
  columnTiles(src + 16, dst + step, step4);
  columnTiles(src + 32, dst + step + step, step4);
  columnTiles(src + 48, dst + step + step + step, step4);
}

/**
 * Y = A' m A + bias for four tiles, component i, j at m + (4 i + j) * step: two rows at y and y + row, of 8 floats if
 * `whole`, else of 4, from the first two tiles.
 */
export function outputTiles(m: usize, step: usize, bias: f32, y: usize, row: usize, whole: bool): void {
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
  if (whole) v128.store(y, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
  even = f32x4.add(f32x4.add(f32x4.add(t0, t1), t2), shift);
  odd = f32x4.add(f32x4.sub(f32x4.sub(t1, t2), t3), shift);
  v128.store(y + row, v128.shuffle<f32>(even, odd, 0, 4, 1, 5));
  if (whole) v128.store(y + row, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
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

/**
 * Arguments of the kernels. A tile is 2x2 positions of the target (2x2 of dy for the weight gradient) and 4x4 of the
 * source; a line of tiles is cut into units of columns. Lengths are in elements.
 */
@unmanaged export class Tiles {
  source: f64; packed: f64; target: f64; bias: f64; scratch: f64; scratchStride: f64; channels: f64; rows: f64; kBlock: f64;
  sourceHeight: f64; sourceWidth: f64; targetHeight: f64; targetWidth: f64; originHeight: f64; originWidth: f64;
  /** Lines of one image, of all images, of a unit; tiles of a line and of a unit's line. */
  imageLines: f64; lines: f64; unitLines: f64; columns: f64; unitColumns: f64; columnUnits: f64;
  /** Rows (channels of the target) of a unit, and how many of them at a time; from channel to channel in scratch memory. */
  unitRows: f64; rowUnits: f64; rowBlock: f64; length: f64; copyFloats: f64;
  /** Weight gradient: channels of a unit; parts of the lines. */
  unitChannels: f64; channelUnits: f64; parts: f64;
}

/** Rows of a plane narrower than a vector, filled up with zeros to 4 floats. */
function widen(plane: usize, height: i32, width: i32, dst: usize): void {
  for (let h = 0; h < height; h++, plane += <usize>width << 2, dst += 16) {
    for (let j: usize = 0; j < 16; j += 4) store<f32>(dst + j, j < <usize>width << 2 ? load<f32>(plane + j) : 0);
  }
}

/**
 * Transforms the source of a unit's tiles: component i of channel c at v + i * vStep + c * length, tiles one after the other.
 * `copy` takes what rowTiles makes of one image, by columns of quads.
 */
export function sourceTiles(
  s: Tiles, channel: i32, channels: i32, firstLine: i32, lastLine: i32, column: i32, columns: i32, copy: usize, v: usize, vStep: usize,
): void {
  const height = <i32>s.sourceHeight, width = <i32>s.sourceWidth, imageLines = <i32>s.imageLines;
  const plane = (<usize>height * <usize>width) << 2, length = <usize>s.length << 2, line4 = <usize>columns << 2;
  const left = <i32>s.originWidth + 2 * column, wide = max(4, width);
  for (let c = 0; c < channels; c++) {
    let to = v + <usize>c * length;
    for (let line = firstLine; line < lastLine; ) {
      const image = line / imageLines, first = line % imageLines;
      const n = min(imageLines - first, lastLine - line);
      let from = <usize>s.source + (<usize>image * <usize>s.channels + <usize>(channel + c)) * plane;
      if (width < 4) {
        widen(from, height, width, copy);
        from = copy;
      }
      // Narrow images go a column of quads at a time, wide ones row by row, in the order that memory has. The last quad
      // overlaps its neighbour; a line shorter than a quad writes on, where the next one lies, or the end.
      const rows = 2 * n + 2, quadBytes = <usize>rows << 6, top = <i32>s.originHeight + 2 * first;
      const spread = copy + (width < 4 ? <usize>height << 4 : 0);
      if (columns > 8) {
        for (let h = 0, at = spread; h < rows; h++, at += 64) wideRow(from, height, wide, top + h, left, columns, at, quadBytes);
      } else {
        for (let j = 0, at = spread; j < columns; j += 4, at += quadBytes) {
          if (columns > 4) j = min(j, columns - 4);
          rowTiles(from, height, wide, top, rows, left + 2 * j, at);
        }
      }
      for (let i: usize = 0, dst = to; i < <usize>n; i++, dst += line4) {
        for (let j = 0, at = spread + (i << 7); j < columns; j += 4, at += quadBytes) {
          if (columns > 4) j = min(j, columns - 4);
          inputTiles(at, dst + (<usize>j << 2), vStep);
        }
      }
      to += <usize>n * line4;
      line += n;
    }
    for (let i = 0; i < 16; i++, to += vStep) v128.store(to, f32x4.splat(0));
  }
}

/** The same for dy, without the halves of G: the transform back of the weight gradient has them. */
export function gradTiles(
  s: Tiles, row: i32, rows: i32, firstLine: i32, lastLine: i32, column: i32, columns: i32, copy: usize, d: usize, dStep: usize,
): void {
  const height = <i32>s.targetHeight, width = <i32>s.targetWidth, imageLines = <i32>s.imageLines, wide = max(4, width);
  const plane = (<usize>height * <usize>width) << 2, length = <usize>s.length << 2, line4 = <usize>columns << 2;
  for (let r = 0; r < rows; r++) {
    let to = d + <usize>r * length;
    for (let line = firstLine; line < lastLine; ) {
      const image = line / imageLines, first = line % imageLines;
      const n = min(imageLines - first, lastLine - line);
      let from = <usize>s.target + (<usize>image * <usize>s.rows + <usize>(row + r)) * plane;
      if (width < 4) {
        widen(from, height, width, copy);
        from = copy;
      }
      const together = columns > 8 ? 1 : n;
      for (let i = 0; i < n; i += together, to += <usize>together * line4) {
        for (let j = 0; j < columns; j += 4) {
          if (columns > 4) j = min(j, columns - 4);
          gradQuads(from, height, wide, 2 * (first + i), together, 2 * (column + j), to + (<usize>j << 2), line4, dStep);
        }
      }
      line += n;
    }
    for (let i = 0; i < 16; i++, to += dStep) v128.store(to, f32x4.splat(0));
  }
}

/** Four tiles of 2x2 numbers of dy, from element `first` of rows h and h + 1 on, in each of n lines. */
function gradQuads(
  plane: usize, height: i32, width: i32, h: i32, n: i32, first: i32, dst: usize, line: usize, step: usize,
): void {
  const a = within(first, width), b = within(first + 4, width);
  const edge = b != first + 4;
  let aMask = f32x4.splat(0), bMask = aMask;
  if (edge) { aMask = window(first, a, width); bMask = window(first + 4, b, width); }
  const aBytes = <usize>a << 2, bBytes = <usize>b << 2, rowBytes = <usize>width << 2;
  const step2 = step + step, step3 = step2 + step, step4 = step2 + step2;
  let row = plane + <usize>h * rowBytes;
  for (let i = 0; i < n; i++, h += 2, row += rowBytes << 1, dst += line) {
    let low = v128.load(row + aBytes), high = v128.load(row + bBytes);
    if (edge) { low = v128.swizzle(low, aMask); high = v128.swizzle(high, bMask); }
    const p0 = evens(low, high), p3 = odds(low, high), p1 = f32x4.add(p0, p3), p2 = f32x4.sub(p0, p3);
    v128.store(dst, p0); v128.store(dst + step, p1); v128.store(dst + step2, p2); v128.store(dst + step3, p3);
    let q0 = f32x4.splat(0), q3 = q0;
    if (h + 1 < height) {
      const next = row + rowBytes;
      low = v128.load(next + aBytes); high = v128.load(next + bBytes);
      if (edge) { low = v128.swizzle(low, aMask); high = v128.swizzle(high, bMask); }
      q0 = evens(low, high); q3 = odds(low, high);
    }
    const q1 = f32x4.add(q0, q3), q2 = f32x4.sub(q0, q3);
    let to = dst + step4;
    v128.store(to, f32x4.add(p0, q0));
    v128.store(to + step, f32x4.add(p1, q1));
    v128.store(to + step2, f32x4.add(p2, q2));
    v128.store(to + step3, f32x4.add(p3, q3));
    to += step4;
    v128.store(to, f32x4.sub(p0, q0));
    v128.store(to + step, f32x4.sub(p1, q1));
    v128.store(to + step2, f32x4.sub(p2, q2));
    v128.store(to + step3, f32x4.sub(p3, q3));
    to += step4;
    v128.store(to, q0); v128.store(to + step, q1); v128.store(to + step2, q2); v128.store(to + step3, q3);
  }
}

/** Dot products of four rows of dy's tiles with two channels of the source's: 4 sums of each channel, or adds them. */
export function dotTiles(
  quads: i32, s0: usize, s1: usize, d0: usize, d1: usize, d2: usize, d3: usize, out: usize, both: bool, add: bool,
): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const end = s0 + (<usize>quads << 4);
  do {
    const b0 = v128.load(s0), b1 = v128.load(s1);
    let v = v128.load(d0);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load(d1);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load(d2);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load(d3);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    d0 += 16; d1 += 16; d2 += 16; d3 += 16; s0 += 16; s1 += 16;
  } while (s0 < end);
  let t0 = sums(s00, s10, s20, s30), t1 = sums(s01, s11, s21, s31);
  if (add) t0 = f32x4.add(t0, v128.load(out));
  v128.store(out, t0);
  if (!both) return;
  if (add) t1 = f32x4.add(t1, v128.load(out, 16));
  v128.store(out, t1, 16);
}

/** One row of nine gradients from four components. */
@inline function first(m0: v128, m1: v128, m2: v128): v128 { return f32x4.add(m0, half(f32x4.add(m1, m2))); }
@inline function middle(m1: v128, m2: v128): v128 { return half(f32x4.sub(m1, m2)); }
@inline function last(m1: v128, m2: v128, m3: v128): v128 { return f32x4.sub(half(f32x4.add(m1, m2)), m3); }

/** 3x3 weight gradients of four rows, `row` bytes apart, of which `valid` exist, from components at m + i * step. */
export function weightTiles(m: usize, step: usize, y: usize, row: usize, valid: i32): void {
  const step4 = step << 2, step8 = step << 3, step12 = step4 + step8;
  let m1 = v128.load(m + step4), m2 = v128.load(m + step8);
  const a0 = first(v128.load(m), m1, m2), b0 = middle(m1, m2), c0 = last(m1, m2, v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const a1 = first(v128.load(m), m1, m2), b1 = middle(m1, m2), c1 = last(m1, m2, v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const a2 = first(v128.load(m), m1, m2), b2 = middle(m1, m2), c2 = last(m1, m2, v128.load(m + step12));
  m += step;
  m1 = v128.load(m + step4); m2 = v128.load(m + step8);
  const a3 = first(v128.load(m), m1, m2), b3 = middle(m1, m2), c3 = last(m1, m2, v128.load(m + step12));
  const g0 = first(a0, a1, a2), g1 = middle(a1, a2), g2 = last(a1, a2, a3), g3 = first(b0, b1, b2);
  const g4 = middle(b1, b2), g5 = last(b1, b2, b3), g6 = first(c0, c1, c2), g7 = middle(c1, c2), g8 = last(c1, c2, c3);
  const low0 = v128.shuffle<f32>(g0, g1, 0, 4, 1, 5), low1 = v128.shuffle<f32>(g2, g3, 0, 4, 1, 5);
  const low2 = v128.shuffle<f32>(g4, g5, 0, 4, 1, 5), low3 = v128.shuffle<f32>(g6, g7, 0, 4, 1, 5);
  v128.store(y, v128.shuffle<f64>(low0, low1, 0, 2));
  v128.store(y, v128.shuffle<f64>(low2, low3, 0, 2), 16);
  store<f32>(y, f32x4.extract_lane(g8, 0), 32);
  if (valid == 1) return;
  y += row;
  v128.store(y, v128.shuffle<f64>(low0, low1, 1, 3));
  v128.store(y, v128.shuffle<f64>(low2, low3, 1, 3), 16);
  store<f32>(y, f32x4.extract_lane(g8, 1), 32);
  if (valid == 2) return;
  const high0 = v128.shuffle<f32>(g0, g1, 2, 6, 3, 7), high1 = v128.shuffle<f32>(g2, g3, 2, 6, 3, 7);
  const high2 = v128.shuffle<f32>(g4, g5, 2, 6, 3, 7), high3 = v128.shuffle<f32>(g6, g7, 2, 6, 3, 7);
  y += row;
  v128.store(y, v128.shuffle<f64>(high0, high1, 0, 2));
  v128.store(y, v128.shuffle<f64>(high2, high3, 0, 2), 16);
  store<f32>(y, f32x4.extract_lane(g8, 2), 32);
  if (valid == 3) return;
  y += row;
  v128.store(y, v128.shuffle<f64>(high0, high1, 1, 3));
  v128.store(y, v128.shuffle<f64>(high2, high3, 1, 3), 16);
  store<f32>(y, f32x4.extract_lane(g8, 3), 32);
}
