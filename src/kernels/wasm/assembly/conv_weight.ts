import { Conv, copySource, dotRow, dotTile } from "./lib_conv";

/** Rows of dy of one block, padded with zeros to whole quads. */
function copyTarget(dy: usize, plane: usize, width: usize, rows: i32, lines: i32, columns: i32, dst: usize, dstRow: usize): void {
  const quads = (columns + 3) >> 2;
  for (let i = 0; i < rows; i++, dy += plane, dst += dstRow) {
    let to = dst;
    for (let r = 0; r < lines; r++) {
      const from = dy + <usize>r * width;
      for (let c = 0; c < quads << 2; c++, to += 4) store<f32>(to, c < columns ? load<f32>(from + (<usize>c << 2)) : 0);
    }
  }
}

/**
 * Partial weight gradients. Unit u sums over one part of the images for one group and one part of its channels; where the
 * parts end depends on shapes alone. Sums lie as [part of images][group][panel of 4 rows][k][4], or, for a lone row, [k].
 */
export function conv_weight_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Conv>(args);
  const groups = <i32>s.groups, allChannels = <i32>s.channels, rows = <i32>s.rows, tapCount = <i32>s.tapCount;
  const imageParts = <i32>s.imageParts, channelParts = <i32>s.channelParts, batch = <i32>s.batch;
  const k = allChannels * tapCount, blockColumns = <i32>s.blockColumns;
  const groupBytes: usize = rows == 1 ? <usize>((k + 3) & ~3) << 2 : (<usize>((rows + 3) & ~3) * <usize>k) << 2;
  const sourcePlane = (<usize>s.sourceDepth * <usize>s.sourceHeight * <usize>s.sourceWidth) << 2;
  const width = <usize>s.targetWidth << 2;
  const dyPlane = <usize>s.targetDepth * <usize>s.targetHeight * width;
  const copyRowBytes = (<usize>s.strideHeight * <usize>s.phases * <usize>s.phaseLength) << 2;
  const table = <usize>s.scratch + <usize>worker * <usize>s.scratchStride;
  const dyCopy = table + (<usize>s.quads << 2), copy = dyCopy + (<usize>s.copyFloats << 2);
  const dyCopyRow = <usize>s.quads << 4;
  for (let u = lo; u < hi; u++) {
    const channelPart = u % channelParts, group = u / channelParts % groups, imagePart = u / channelParts / groups;
    const channel = channelPart * allChannels / channelParts;
    const channels = (channelPart + 1) * allChannels / channelParts - channel;
    const firstK = channel * tapCount, lastK = firstK + channels * tapCount;
    const sums = <usize>s.target + <usize>imagePart * <usize>s.partBytes + <usize>group * groupBytes;
    let add = false;
    for (let image = imagePart * batch / imageParts; image < (imagePart + 1) * batch / imageParts; image++) {
      const member = <usize>(image * groups + group);
      const from = <usize>s.source + (member * <usize>allChannels + <usize>channel) * sourcePlane;
      for (let block = 0; block < <i32>s.outDepth * <i32>s.rowBlocks * <i32>s.columnBlocks; block++) {
        const column = block % <i32>s.columnBlocks * blockColumns, columns = min(blockColumns, <i32>s.outWidth - column);
        const line = block / <i32>s.columnBlocks;
        const row = line % <i32>s.rowBlocks * <i32>s.blockRows, lines = min(<i32>s.blockRows, <i32>s.outHeight - row);
        const depth = line / <i32>s.rowBlocks;
        copySource(s, from, channels, depth, row, lines, column, copy);
        let dy = <usize>s.weights + member * <usize>rows * dyPlane
          + (<usize>depth * <usize>s.targetHeight + <usize>row) * width + (<usize>column << 2);
        let dyRow = dyPlane;
        if (s.copyTarget != 0) {
          copyTarget(dy, dyPlane, width, rows, lines, columns, dyCopy, dyCopyRow);
          dy = dyCopy;
          dyRow = dyCopyRow;
        }
        let quads = 0;
        for (let r = 0; r < lines; r++) {
          for (let c = 0; c < columns; c += 4, quads++) {
            store<u32>(table + (<usize>quads << 2), <u32>(<usize>r * copyRowBytes + (<usize>c << 2)));
          }
        }
        // Offsets count from the first channel of the group; the copy starts at this part's first.
        const base = copy - ((<usize>channel * <usize>s.plane) << 2), offsets = <usize>s.offsets;
        if (rows == 1) {
          for (let p = firstK; p < lastK; p += 4) {
            const at = offsets + (<usize>p << 2), left = lastK - p;
            const o0 = <usize>load<u32>(at);
            const o1 = left > 1 ? <usize>load<u32>(at, 4) : o0, o2 = left > 2 ? <usize>load<u32>(at, 8) : o0;
            const o3 = left > 3 ? <usize>load<u32>(at, 12) : o0;
            dotRow(table, quads, base + o0, base + o1, base + o2, base + o3, dy, sums + (<usize>p << 2), add);
          }
        } else {
          for (let i = 0; i < rows; i += 4) {
            const d0 = dy + <usize>i * dyRow, d1 = dy + <usize>min(i + 1, rows - 1) * dyRow;
            const d2 = dy + <usize>min(i + 2, rows - 1) * dyRow, d3 = dy + <usize>min(i + 3, rows - 1) * dyRow;
            const panel = sums + ((<usize>i * <usize>k) << 2);
            for (let p = firstK; p < lastK; p += 2) {
              const at = offsets + (<usize>p << 2), both = p + 1 < lastK;
              const s0 = base + <usize>load<u32>(at), s1 = both ? base + <usize>load<u32>(at, 4) : s0;
              dotTile(table, quads, s0, s1, d0, d1, d2, d3, panel + (<usize>p << 4), both, add);
            }
          }
        }
        add = true;
      }
    }
  }
}

@unmanaged class Merge { sums: f64; dWeight: f64; groups: f64; rows: f64; k: f64; parts: f64; partBytes: f64; }

/** dWeight = the parts' sums, added in order. Unit u is a panel of 4 rows of one group, or a lone row. */
export function conv_weight_merge(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Merge>(args);
  const rows = <i32>s.rows, k = <i32>s.k, parts = <i32>s.parts;
  const partBytes = <usize>s.partBytes, kBytes = <usize>k << 2;
  const height = rows == 1 ? 1 : 4, panels = (rows + height - 1) / height;
  const panelBytes: usize = rows == 1 ? <usize>((k + 3) & ~3) << 2 : kBytes << 2;
  for (let u = lo; u < hi; u++) {
    const from = <usize>s.sums + <usize>u * panelBytes;
    const first = u % panels * height;
    const to = <usize>s.dWeight + <usize>(u / panels * rows + first) * kBytes;
    const valid = min(height, rows - first);
    for (let p = 0; p < (rows == 1 ? (k + 3) >> 2 : k); p++) {
      let at = from + (<usize>p << 4);
      let sum = v128.load(at);
      for (let part = 1; part < parts; part++) {
        at += partBytes;
        sum = f32x4.add(sum, v128.load(at));
      }
      if (rows == 1) {
        const dst = to + (<usize>p << 4), left = k - (p << 2);
        store<f32>(dst, f32x4.extract_lane(sum, 0));
        if (left > 1) store<f32>(dst, f32x4.extract_lane(sum, 1), 4);
        if (left > 2) store<f32>(dst, f32x4.extract_lane(sum, 2), 8);
        if (left > 3) store<f32>(dst, f32x4.extract_lane(sum, 3), 12);
        continue;
      }
      const dst = to + (<usize>p << 2);
      store<f32>(dst, f32x4.extract_lane(sum, 0));
      if (valid > 1) store<f32>(dst + kBytes, f32x4.extract_lane(sum, 1));
      if (valid > 2) store<f32>(dst + kBytes * 2, f32x4.extract_lane(sum, 2));
      if (valid > 3) store<f32>(dst + kBytes * 3, f32x4.extract_lane(sum, 3));
    }
  }
}
