import { madd } from "./lib_gemm";

/**
 * Arguments of the convolution kernels. A launch walks a grid of `out` positions (depth, height, width) of a target
 * tensor: position i lies at start + i * step of the target axis, and tap t of its window reads the source axis at
 * origin + i * stride + (offset of t). Convolution: target y, source x. Its input gradient: target dx, source dy, one
 * launch for each remainder of the target index by the stride, with the taps that meet it. Weight gradient: the grid of a
 * convolution, with dy in place of the weights and partial sums in place of the target. Lengths are in elements.
 */
@unmanaged export class Conv {
  source: f64; weights: f64; target: f64; bias: f64; taps: f64; offsets: f64; scratch: f64; scratchStride: f64;
  batch: f64; groups: f64; channels: f64; rows: f64; tapCount: f64; kBlock: f64;
  sourceDepth: f64; sourceHeight: f64; sourceWidth: f64;
  targetDepth: f64; targetHeight: f64; targetWidth: f64;
  outDepth: f64; outHeight: f64; outWidth: f64;
  startDepth: f64; startHeight: f64; startWidth: f64;
  stepDepth: f64; stepHeight: f64; stepWidth: f64;
  originDepth: f64; originHeight: f64; originWidth: f64;
  strideDepth: f64; strideHeight: f64; strideWidth: f64;
  /** A block of positions is one depth, blockRows by blockColumns. */
  blockRows: f64; blockColumns: f64; rowBlocks: f64; columnBlocks: f64;
  /** Source copy: [channel][slab][row][phase][column]; slabs lie slabStep apart in depth, rowExtent rows serve one position. */
  slabs: f64; slabStep: f64; rowExtent: f64; phases: f64; phaseLength: f64; plane: f64;
  /** Weight gradient: images and channels are cut into this many parts; bytes of one part's sums; dy must be copied. */
  imageParts: f64; channelParts: f64; partBytes: f64; copyTarget: f64; copyFloats: f64; quads: f64;
}

/** Copies n floats, in quads: the last one overlaps its neighbour instead of leaving a scalar tail. */
export function copyRun(dst: usize, src: usize, n: i32): void {
  if (n >= 4) {
    const last = <usize>(n - 4) << 2;
    for (let i: usize = 0; i < last; i += 16) v128.store(dst + i, v128.load(src + i));
    v128.store(dst + last, v128.load(src + last));
    return;
  }
  for (let i = 0; i < n; i++) store<f32>(dst + (<usize>i << 2), load<f32>(src + (<usize>i << 2)));
}

export function zeroRun(dst: usize, n: i32): void {
  const end = dst + (<usize>n << 2);
  for (; dst + 16 <= end; dst += 16) v128.store(dst, f32x4.splat(0));
  for (; dst < end; dst += 4) store<f32>(dst, 0);
}

/** dst[j] = source row element first + j * stride, zero outside [0, width). */
export function copyRow(dst: usize, row: usize, first: i32, stride: i32, n: i32, width: i32): void {
  if (stride == 1) {
    const left = min(n, max(0, -first));
    const right = min(n, max(left, width - first));
    zeroRun(dst, left);
    copyRun(dst + (<usize>left << 2), row + (<usize>(first + left) << 2), right - left);
    zeroRun(dst + (<usize>right << 2), n - right);
    return;
  }
  for (let j = 0, at = first; j < n; j++, at += stride) {
    store<f32>(dst + (<usize>j << 2), <u32>at < <u32>width ? load<f32>(row + (<usize>at << 2)) : 0);
  }
}

/**
 * Copies the part of one image that a block of positions reads, padded with zeros. Columns are sorted by their
 * remainder by the stride (phases), so that for every tap neighbouring positions read neighbouring floats.
 */
export function copySource(
  s: Conv, image: usize, channels: i32, depth: i32, row: i32, rows: i32, column: i32, dst: usize,
): void {
  const deep = <i32>s.sourceDepth, height = <i32>s.sourceHeight, width = <i32>s.sourceWidth, stride = <i32>s.strideWidth;
  const slabs = <i32>s.slabs, phases = <i32>s.phases, length = <i32>s.phaseLength;
  const planeFloats = <usize>deep * <usize>height * <usize>width;
  const firstDepth = <i32>s.originDepth + depth * <i32>s.strideDepth;
  const firstRow = <i32>s.originHeight + row * <i32>s.strideHeight;
  const firstColumn = <i32>s.originWidth + column * stride;
  const copied = (rows - 1) * <i32>s.strideHeight + <i32>s.rowExtent;
  const slabFloats = ((<i32>s.blockRows - 1) * <i32>s.strideHeight + <i32>s.rowExtent) * phases * length;
  for (let c = 0; c < channels; c++) {
    for (let slab = 0; slab < slabs; slab++) {
      const d = firstDepth + slab * <i32>s.slabStep;
      let to = dst + ((<usize>c * <usize>s.plane + <usize>slab * <usize>slabFloats) << 2);
      for (let h = firstRow; h < firstRow + copied; h++) {
        if (<u32>d < <u32>deep && <u32>h < <u32>height) {
          const from = image + ((<usize>c * planeFloats + (<usize>d * <usize>height + <usize>h) * <usize>width) << 2);
          for (let phase = 0; phase < phases; phase++) {
            copyRow(to, from, firstColumn + phase, stride, length, width);
            to += <usize>length << 2;
          }
        } else {
          zeroRun(to, phases * length);
          to += <usize>(phases * length) << 2;
        }
      }
    }
  }
}

/**
 * y[4 rows, 2 quads] (or y += it) from packed weights a[kc, 4] and the source copy, where step p of quads 0 and 1 lies
 * at s0 and s1 + offset[p]; `bias` is 4 rows or null. Reads what im2col would have copied, where it lies.
 * Two steps to a turn save an eighth of the time. The exit between them ends a basic block: without it V8 loads both
 * steps first and spills. (gemmTile and dotTile, whose loads need no table, run at full speed with one step to a turn.)
 */
export function convTile(
  a: usize, offset: usize, kc: i32, s0: usize, s1: usize, y0: usize, y1: usize, yRow: usize, add: i32, bias: usize,
): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const end = a + (<usize>kc << 4);
  do {
    let at = <usize>load<u32>(offset);
    let b0 = v128.load(s0 + at), b1 = v128.load(s1 + at);
    let v = v128.load32_splat(a);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load32_splat(a, 4);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load32_splat(a, 8);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load32_splat(a, 12);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    if (a + 16 >= end) break;
    at = <usize>load<u32>(offset, 4);
    b0 = v128.load(s0 + at); b1 = v128.load(s1 + at);
    v = v128.load32_splat(a, 16);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load32_splat(a, 20);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load32_splat(a, 24);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load32_splat(a, 28);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    a += 32; offset += 8;
  } while (a < end);
  const row2 = yRow + yRow, row3 = row2 + yRow;
  if (add) {
    s00 = f32x4.add(s00, v128.load(y0)); s01 = f32x4.add(s01, v128.load(y1));
    s10 = f32x4.add(s10, v128.load(y0 + yRow)); s11 = f32x4.add(s11, v128.load(y1 + yRow));
    s20 = f32x4.add(s20, v128.load(y0 + row2)); s21 = f32x4.add(s21, v128.load(y1 + row2));
    s30 = f32x4.add(s30, v128.load(y0 + row3)); s31 = f32x4.add(s31, v128.load(y1 + row3));
  } else if (bias) {
    let v = v128.load32_splat(bias);
    s00 = f32x4.add(s00, v); s01 = f32x4.add(s01, v);
    v = v128.load32_splat(bias, 4);
    s10 = f32x4.add(s10, v); s11 = f32x4.add(s11, v);
    v = v128.load32_splat(bias, 8);
    s20 = f32x4.add(s20, v); s21 = f32x4.add(s21, v);
    v = v128.load32_splat(bias, 12);
    s30 = f32x4.add(s30, v); s31 = f32x4.add(s31, v);
  }
  v128.store(y0, s00); v128.store(y1, s01);
  v128.store(y0 + yRow, s10); v128.store(y1 + yRow, s11);
  v128.store(y0 + row2, s20); v128.store(y1 + row2, s21);
  v128.store(y0 + row3, s30); v128.store(y1 + row3, s31);
}

/** One row of weights a[kc] and four quads: for depthwise convolution. */
export function convRow(
  a: usize, offset: usize, kc: i32, s0: usize, s1: usize, s2: usize, s3: usize,
  y0: usize, y1: usize, y2: usize, y3: usize, add: i32, bias: usize,
): void {
  let t0 = f32x4.splat(0), t1 = t0, t2 = t0, t3 = t0;
  const end = a + (<usize>kc << 2);
  do {
    const at = <usize>load<u32>(offset), v = v128.load32_splat(a);
    t0 = madd(t0, v, v128.load(s0 + at)); t1 = madd(t1, v, v128.load(s1 + at));
    t2 = madd(t2, v, v128.load(s2 + at)); t3 = madd(t3, v, v128.load(s3 + at));
    a += 4; offset += 4;
  } while (a < end);
  if (add) {
    t0 = f32x4.add(t0, v128.load(y0)); t1 = f32x4.add(t1, v128.load(y1));
    t2 = f32x4.add(t2, v128.load(y2)); t3 = f32x4.add(t3, v128.load(y3));
  } else if (bias) {
    const v = v128.load32_splat(bias);
    t0 = f32x4.add(t0, v); t1 = f32x4.add(t1, v); t2 = f32x4.add(t2, v); t3 = f32x4.add(t3, v);
  }
  v128.store(y0, t0); v128.store(y1, t1); v128.store(y2, t2); v128.store(y3, t3);
}

/** Moves `rows` quads of n lanes from a scratch tile (rows of 8) to the target, lanes `step` bytes apart. */
export function moveQuad(
  tile: usize, y: usize, yRow: usize, rows: i32, n: i32, step: usize, add: i32, bias: usize,
): void {
  for (let i = 0; i < rows; i++, tile += 32, y += yRow) {
    const shift: f32 = bias ? load<f32>(bias + (<usize>i << 2)) : 0;
    if (n == 4 && step == 4) {
      v128.store(y, f32x4.add(v128.load(tile), add ? v128.load(y) : f32x4.splat(shift)));
      continue;
    }
    for (let lane: usize = 0, to = y; lane < <usize>n << 2; lane += 4, to += step) {
      store<f32>(to, load<f32>(tile + lane) + (add ? load<f32>(to) : shift));
    }
  }
}

/** Lane sums of four vectors, as one vector. */
@inline export function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f64>(ab, cd, 0, 2), v128.shuffle<f64>(ab, cd, 1, 3));
}

/**
 * Weight gradient of 4 rows and 2 taps over a block of positions: dot products of rows dy (dyRow bytes apart) with the
 * source copy at s0 and s1 + offset of each quad. Lanes run over positions, so nothing is packed or transposed. Writes 4
 * sums of each tap to `out`, or adds them.
 */
export function dotTile(
  offset: usize, quads: i32, s0: usize, s1: usize, d0: usize, d1: usize, d2: usize, d3: usize, out: usize, both: bool, add: bool,
): void {
  let s00 = f32x4.splat(0), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
  const end = offset + (<usize>quads << 2);
  do {
    const at = <usize>load<u32>(offset);
    const b0 = v128.load(s0 + at), b1 = v128.load(s1 + at);
    let v = v128.load(d0);
    s00 = madd(s00, v, b0); s01 = madd(s01, v, b1);
    v = v128.load(d1);
    s10 = madd(s10, v, b0); s11 = madd(s11, v, b1);
    v = v128.load(d2);
    s20 = madd(s20, v, b0); s21 = madd(s21, v, b1);
    v = v128.load(d3);
    s30 = madd(s30, v, b0); s31 = madd(s31, v, b1);
    d0 += 16; d1 += 16; d2 += 16; d3 += 16; offset += 4;
  } while (offset < end);
  let t0 = sums(s00, s10, s20, s30), t1 = sums(s01, s11, s21, s31);
  if (add) t0 = f32x4.add(t0, v128.load(out));
  v128.store(out, t0);
  if (!both) return;
  if (add) t1 = f32x4.add(t1, v128.load(out, 16));
  v128.store(out, t1, 16);
}

/** The same for one row and 4 taps. */
export function dotRow(
  offset: usize, quads: i32, s0: usize, s1: usize, s2: usize, s3: usize, dy: usize, out: usize, add: bool,
): void {
  let t0 = f32x4.splat(0), t1 = t0, t2 = t0, t3 = t0;
  const end = offset + (<usize>quads << 2);
  do {
    const at = <usize>load<u32>(offset), v = v128.load(dy);
    t0 = madd(t0, v, v128.load(s0 + at)); t1 = madd(t1, v, v128.load(s1 + at));
    t2 = madd(t2, v, v128.load(s2 + at)); t3 = madd(t3, v, v128.load(s3 + at));
    dy += 16; offset += 4;
  } while (offset < end);
  const t = sums(t0, t1, t2, t3);
  v128.store(out, add ? f32x4.add(t, v128.load(out)) : t);
}
