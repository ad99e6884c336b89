import { Conv, convRow, convTile, copySource, moveQuad } from "./lib_conv";

@unmanaged class PackWeights {
  weight: f64; packed: f64; offsets: f64; taps: f64; groups: f64; rows: f64; channels: f64; tapCount: f64; kBlock: f64;
  groupStride: f64; rowStride: f64; channelStride: f64; plane: f64;
}

/**
 * Packs weights for conv_tiles, [group][block of k][panel of 4 rows][k][4], k running over channels and taps; a lone row
 * (depthwise) stays one row. `taps` is pairs: position in the kernel, byte offset in the source copy. Unit u is a panel;
 * the unit after the last expands the offsets of all k.
 */
export function conv_pack(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<PackWeights>(args);
  const rows = <i32>s.rows, channels = <i32>s.channels, tapCount = <i32>s.tapCount, kBlock = <i32>s.kBlock;
  const height = rows == 1 ? 1 : 4, panels = (rows + height - 1) / height;
  const k = channels * tapCount, taps = <usize>s.taps;
  for (let u = lo; u < hi; u++) {
    if (u == <i32>s.groups * panels) {
      let offset = <usize>s.offsets;
      for (let c = 0; c < channels; c++) {
        const plane = <u32>c * (<u32>s.plane << 2);
        for (let t = 0; t < tapCount; t++, offset += 4) store<u32>(offset, plane + load<u32>(taps + (<usize>t << 3), 4));
      }
      continue;
    }
    const group = u / panels, first = u % panels * height;
    const packed = <usize>s.packed + ((<usize>group * <usize>(panels * height) * <usize>k) << 2);
    const weight = <usize>s.weight + ((<usize>group * <usize>s.groupStride) << 2);
    for (let i = 0; i < height; i++) {
      const row = weight + ((<usize>(first + i) * <usize>s.rowStride) << 2);
      const valid = first + i < rows;
      let c = 0, t = 0;
      for (let from = 0; from < k; from += kBlock) {
        const kc = min(kBlock, k - from);
        let to = packed + ((<usize>from * <usize>(panels * height) + <usize>first * <usize>kc + <usize>i) << 2);
        for (let p = 0; p < kc; p++, to += <usize>height << 2) {
          const at = <usize>c * <usize>s.channelStride + <usize>load<u32>(taps + (<usize>t << 3));
          store<f32>(to, valid ? load<f32>(row + (at << 2)) : 0);
          if (++t == tapCount) { t = 0; c++; }
        }
      }
    }
  }
}

/**
 * target = weights * source (+ bias). Unit u is a block of positions of one image and group. The source part that the
 * block reads is copied once, padded; tiles then read it in place, so no columns exist. What four quads of positions read
 * stays in the first-level cache while all panels of weights pass.
 */
export function conv_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Conv>(args);
  const groups = <i32>s.groups, channels = <i32>s.channels, rows = <i32>s.rows, kBlock = <i32>s.kBlock;
  const outDepth = <i32>s.outDepth, rowBlocks = <i32>s.rowBlocks, columnBlocks = <i32>s.columnBlocks;
  const k = channels * <i32>s.tapCount;
  const padded = rows == 1 ? 1 : (rows + 3) & ~3;
  const sourcePlane = <usize>s.sourceDepth * <usize>s.sourceHeight * <usize>s.sourceWidth;
  const targetWidth = <usize>s.targetWidth;
  const plane = (<usize>s.targetDepth * <usize>s.targetHeight * targetWidth) << 2;
  const rowBytes = (<usize>s.stepHeight * targetWidth) << 2, step = <usize>s.stepWidth << 2;
  const copyRowBytes = (<usize>s.strideHeight * <usize>s.phases * <usize>s.phaseLength) << 2;
  const tile = <usize>s.scratch + <usize>worker * <usize>s.scratchStride, copy = tile + 128;
  for (let u = lo; u < hi; u++) {
    let v = u / columnBlocks;
    const column = u % columnBlocks * <i32>s.blockColumns, columns = min(<i32>s.blockColumns, <i32>s.outWidth - column);
    const row = v % rowBlocks * <i32>s.blockRows, lastRow = min(row + <i32>s.blockRows, <i32>s.outHeight);
    v /= rowBlocks;
    const depth = v % outDepth, member = <usize>(v / outDepth); // image * groups + group
    const group = <usize>(v / outDepth % groups);
    copySource(
      s, <usize>s.source + ((member * <usize>channels * sourcePlane) << 2), channels, depth, row, lastRow - row, column, copy,
    );
    const corner = <usize>s.target + member * <usize>rows * plane + ((
      ((<usize>s.startDepth + <usize>depth * <usize>s.stepDepth) * <usize>s.targetHeight + <usize>s.startHeight) * targetWidth
      + <usize>s.startWidth) << 2) + <usize>row * rowBytes + <usize>column * step;
    const weights = <usize>s.weights + ((group * <usize>padded * <usize>k) << 2);
    const bias: usize = s.bias == 0 ? 0 : <usize>s.bias + ((group * <usize>rows) << 2);
    for (let from = 0; from < k; from += kBlock) {
      const kc = min(kBlock, k - from), add = <i32>(from > 0);
      const offset = <usize>s.offsets + (<usize>from << 2), block = weights + ((<usize>from * <usize>padded) << 2);
      let r = row, c = 0;
      while (r < lastRow) {
        // The next 4 quads; missing ones repeat the first and are not stored.
        let s0: usize = 0, s1: usize = 0, s2: usize = 0, s3: usize = 0, y0: usize = 0, y1: usize = 0, y2: usize = 0, y3: usize = 0;
        let n0 = 0, n1 = 0, n2 = 0, n3 = 0;
        for (let q = 0; q < 4 && r < lastRow; q++) {
          const from4 = copy + <usize>(r - row) * copyRowBytes + (<usize>c << 2);
          const to = corner + <usize>(r - row) * rowBytes + <usize>c * step;
          const n = min(4, columns - c);
          if (q == 0) { s0 = s1 = s2 = s3 = from4; y0 = to; n0 = n; }
          else if (q == 1) { s1 = from4; y1 = to; n1 = n; }
          else if (q == 2) { s2 = s3 = from4; y2 = to; n2 = n; }
          else { s3 = from4; y3 = to; n3 = n; }
          c += 4;
          if (c >= columns) { c = 0; r++; }
        }
        const whole01 = n0 + n1 == 8 && step == 4, whole23 = n2 + n3 == 8 && step == 4;
        if (rows == 1) {
          if (whole01 && whole23) {
            convRow(block, offset, kc, s0, s1, s2, s3, y0, y1, y2, y3, add, bias);
            continue;
          }
          convRow(block, offset, kc, s0, s1, s2, s3, tile, tile + 16, tile + 32, tile + 48, 0, 0);
          moveQuad(tile, y0, 0, 1, n0, step, add, bias);
          if (n1) moveQuad(tile + 16, y1, 0, 1, n1, step, add, bias);
          if (n2) moveQuad(tile + 32, y2, 0, 1, n2, step, add, bias);
          if (n3) moveQuad(tile + 48, y3, 0, 1, n3, step, add, bias);
          continue;
        }
        for (let i = 0; i < rows; i += 4) {
          const a = block + ((<usize>i * <usize>kc) << 2), below = <usize>i * plane;
          const shift: usize = bias ? bias + (<usize>i << 2) : 0;
          const height = min(4, rows - i);
          if (whole01 && height == 4) {
            convTile(a, offset, kc, s0, s1, y0 + below, y1 + below, plane, add, shift);
          } else {
            convTile(a, offset, kc, s0, s1, tile, tile + 16, 32, 0, 0);
            moveQuad(tile, y0 + below, plane, height, n0, step, add, shift);
            if (n1) moveQuad(tile + 16, y1 + below, plane, height, n1, step, add, shift);
          }
          if (n2 == 0) continue;
          if (whole23 && height == 4) {
            convTile(a, offset, kc, s2, s3, y2 + below, y3 + below, plane, add, shift);
          } else {
            convTile(a, offset, kc, s2, s3, tile, tile + 16, 32, 0, 0);
            moveQuad(tile, y2 + below, plane, height, n2, step, add, shift);
            if (n3) moveQuad(tile + 16, y3 + below, plane, height, n3, step, add, shift);
          }
        }
      }
    }
  }
}
