import { gemmHalfTileStored, gemmTileStrided } from "./lib_gemm";
import { dotTiles, gradTiles, kernelTiles, outputTiles, sourceTiles, Tiles, weightTiles } from "./lib_winograd";

/**
 * From component to component of kernels and of sums: an odd number of cache lines, so that the 16 that a transform touches
 * lie in 16 cache sets.
 */
@inline function componentBytes(rows: i32, channels: i32): usize {
  return ((<usize>((rows + 3) & ~3) * <usize>channels) << 2) | 64;
}

@unmanaged class Kernels { weight: f64; packed: f64; rows: f64; channels: f64; rowStride: f64; channelStride: f64; kBlock: f64; flip: f64; }

/**
 * Transforms 3x3 kernels and packs them for winograd_tiles: [component][block of channels][panel of 4 rows][channel][4].
 * Unit u is a panel; rows beyond the last repeat it.
 */
export function winograd_kernels(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Kernels>(args);
  const rows = <i32>s.rows, channels = <i32>s.channels, kBlock = <i32>s.kBlock, flip = s.flip != 0;
  const padded = <usize>(rows + 3) & ~3, step = componentBytes(rows, channels);
  const rowBytes = <usize>s.rowStride << 2, channelBytes = <usize>s.channelStride << 2;
  for (let u = lo; u < hi; u++) {
    const row = u << 2, valid = min(4, rows - row);
    let g = <usize>s.weight + <usize>row * rowBytes;
    for (let from = 0; from < channels; from += kBlock) {
      const kc = min(kBlock, channels - from);
      let to = <usize>s.packed + ((<usize>from * padded + <usize>row * <usize>kc) << 2);
      for (let c = 0; c < kc; c++, g += channelBytes, to += 16) kernelTiles(g, rowBytes, valid, flip, to, step);
    }
  }
}

/**
 * target = kernels * source (+ bias). Unit u is some lines of tiles and some rows of the target. For each block of tiles:
 * all channels of the source transformed, 16 products [rows, channels] [channels, tiles], and the transform back, with
 * all three in scratch memory that stays in the second-level cache.
 */
export function winograd_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Tiles>(args);
  const channels = <i32>s.channels, rows = <i32>s.rows, kBlock = <i32>s.kBlock, imageLines = <i32>s.imageLines;
  const bottom = <i32>s.targetHeight, right = <i32>s.targetWidth;
  const targetRow = <usize>s.targetWidth << 2, targetPlane = <usize>s.targetHeight * targetRow;
  const padded = <usize>(rows + 3) & ~3, length = <usize>s.length << 2, rowBlock = <i32>s.rowBlock;
  const kernelStep = componentBytes(rows, channels);
  const spot = <usize>s.scratch + <usize>worker * <usize>s.scratchStride, copy = spot + 64;
  // Components lie as componentBytes has them.
  const v = copy + (<usize>s.copyFloats << 2), vStep = <usize>channels * length | 64;
  const m = v + (vStep << 4), mStep = <usize>rowBlock * length | 64;
  const columnUnits = <i32>s.columnUnits, rowUnits = <i32>s.rowUnits;
  for (let u = lo; u < hi; u++) {
    const firstRow = u % rowUnits * <i32>s.unitRows, lastRow = min(rows, firstRow + <i32>s.unitRows);
    const w = u / rowUnits;
    const column = w % columnUnits * <i32>s.unitColumns, columns = min(<i32>s.unitColumns, <i32>s.columns - column);
    const firstLine = w / columnUnits * <i32>s.unitLines, lastLine = min(<i32>s.lines, firstLine + <i32>s.unitLines);
    const tiles = (lastLine - firstLine) * columns;
    const firstImage = <usize>(firstLine / imageLines), firstHeight = firstLine % imageLines << 1;

    sourceTiles(s, 0, channels, firstLine, lastLine, column, columns, copy, v, vStep);
    for (let block = firstRow; block < lastRow; block += rowBlock) {
      const blockEnd = min(lastRow, block + rowBlock);
      for (let component: usize = 0; component < 16; component++) {
        const packed = <usize>s.packed + component * kernelStep;
        for (let k = 0; k < channels; k += kBlock) {
          const kc = min(kBlock, channels - k);
          const b = v + component * vStep + <usize>k * length;
          for (let r = block; r < blockEnd; r += 4) {
            const a = packed + ((<usize>k * padded + <usize>r * <usize>kc) << 2);
            const y = m + component * mStep + <usize>(r - block) * length;
            let t: usize = 0;
            for (; t + 4 < <usize>tiles; t += 8) gemmTileStrided(a, b + (t << 2), length, kc, y + (t << 2), <i32>(k > 0));
            if (t < <usize>tiles) gemmHalfTileStored(a, b + (t << 2), length, kc, y + (t << 2), <i32>(k > 0));
          }
        }
      }
      for (let r = block; r < blockEnd; r++) {
        const shift: f32 = s.bias == 0 ? 0 : load<f32>(<usize>s.bias + (<usize>r << 2));
        let from = m + <usize>(r - block) * length;
        let h = firstHeight, corner = <usize>s.target + (firstImage * <usize>rows + <usize>r) * targetPlane;
        for (let line = firstLine; line < lastLine; line++, from += <usize>columns << 2, h += 2) {
          if (h >= bottom) { h = 0; corner += <usize>rows * targetPlane; }
          const y = corner + <usize>h * targetRow;
          const below: usize = h + 1 < bottom ? targetRow : 0;
          for (let j = 0; j < columns; j += 4) {
            if (columns > 4) j = min(j, columns - 4);
            const x = 2 * (column + j), n = min(8, min(right - x, 2 * (columns - j)));
            const to = y + (<usize>x << 2);
            if ((n & 3) == 0 && below) {
              outputTiles(from + (<usize>j << 2), mStep, shift, to, below, n == 8);
              continue;
            }
            outputTiles(from + (<usize>j << 2), mStep, shift, spot, 32, true);
            for (let i: usize = 0; i < <usize>n << 2; i += 4) store<f32>(to + i, load<f32>(spot + i));
            if (below) for (let i: usize = 0; i < <usize>n << 2; i += 4) store<f32>(to + below + i, load<f32>(spot + i, 32));
          }
        }
      }
    }
  }
}

/**
 * Partial weight gradients in the transformed domain, F(3x3, 2x2): for each component the products of the tiles of dy
 * (`target`) and of x, summed over tiles. Unit u is one part of the lines, one block of rows and one of channels. Sums lie
 * as [part][component][panel of 4 rows][channel][4] at `packed`.
 */
export function winograd_weight_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Tiles>(args);
  const allChannels = <i32>s.channels, allRows = <i32>s.rows;
  const length = <usize>s.length << 2, lines = <i32>s.lines, parts = <i32>s.parts, unitLines = <i32>s.unitLines;
  const copy = <usize>s.scratch + <usize>worker * <usize>s.scratchStride;
  const v = copy + (<usize>s.copyFloats << 2), vStep = <usize>s.unitChannels * length | 64;
  const d = v + (vStep << 4), dStep = <usize>s.unitRows * length | 64;
  const sumStep = componentBytes(allRows, allChannels);
  const rowUnits = <i32>s.rowUnits, channelUnits = <i32>s.channelUnits;
  for (let u = lo; u < hi; u++) {
    const firstRow = u % rowUnits * <i32>s.unitRows, rows = min(<i32>s.unitRows, allRows - firstRow);
    const w = u / rowUnits;
    const channel = w % channelUnits * <i32>s.unitChannels, channels = min(<i32>s.unitChannels, allChannels - channel);
    const part = w / channelUnits;
    const sums = <usize>s.packed + <usize>part * (sumStep << 4)
      + ((<usize>firstRow * <usize>allChannels + ((<usize>channel) << 2)) << 2);
    const lastLine = (part + 1) * lines / parts;
    let add = false;
    for (let line = part * lines / parts; line < lastLine; line += unitLines) {
      const end = min(lastLine, line + unitLines);
      for (let column = 0; column < <i32>s.columns; column += <i32>s.unitColumns) {
        const columns = min(<i32>s.unitColumns, <i32>s.columns - column);
        const quads = ((end - line) * columns + 3) >> 2;
        sourceTiles(s, channel, channels, line, end, column, columns, copy, v, vStep);
        gradTiles(s, firstRow, rows, line, end, column, columns, copy, d, dStep);
        for (let component: usize = 0; component < 16; component++) {
          for (let r = 0; r < rows; r += 4) {
            const d0 = d + component * dStep + <usize>r * length;
            const d1 = d0 + (r + 1 < rows ? length : 0), d2 = d1 + (r + 2 < rows ? length : 0);
            const d3 = d2 + (r + 3 < rows ? length : 0);
            let to = sums + component * sumStep + ((<usize>r * <usize>allChannels) << 2);
            let from = v + component * vStep;
            for (let c = 0; c < channels; c += 2, from += length << 1, to += 32) {
              const both = c + 1 < channels;
              dotTiles(quads, from, both ? from + length : from, d0, d1, d2, d3, to, both, add);
            }
          }
        }
        add = true;
      }
    }
  }
}

@unmanaged class Merge { sums: f64; dWeight: f64; rows: f64; channels: f64; parts: f64; }

/** dWeight: the parts' sums, added in order, and the transform back. Unit u is a panel of 4 rows. */
export function winograd_weight_merge(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Merge>(args);
  const rows = <i32>s.rows, channels = <usize>s.channels, parts = <i32>s.parts;
  const step = componentBytes(rows, <i32>channels), rowBytes = channels * 36;
  for (let u = lo; u < hi; u++) {
    const row = <usize>u << 2;
    const from = <usize>s.sums + ((row * channels) << 2), to = <usize>s.dWeight + row * rowBytes;
    for (let c: usize = 0; c < channels; c++) {
      const sums = from + (c << 4);
      for (let part = 1, at = sums + (step << 4); part < parts; part++, at += step << 4) {
        for (let i: usize = 0, j: usize = 0; i < 16; i++, j += step) {
          v128.store(sums + j, f32x4.add(v128.load(sums + j), v128.load(at + j)));
        }
      }
      weightTiles(sums, step, to + c * 36, rowBytes, min(4, rows - <i32>row));
    }
  }
}
