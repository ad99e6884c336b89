import { copyRow, zeroRun } from "./lib_conv";
import { gemmHalfTileStored, gemmTileStrided } from "./lib_gemm";
import { inputTiles, kernelTiles, outputTiles } from "./lib_winograd";

@unmanaged class Kernels { weight: f64; packed: f64; rows: f64; channels: f64; rowStride: f64; channelStride: f64; kBlock: f64; flip: f64; }

/**
 * Transforms 3x3 kernels and packs them for winograd_tiles: [component][block of channels][panel of 4 rows][channel][4].
 * Unit u is a panel; rows beyond the last repeat it.
 */
export function winograd_kernels(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Kernels>(args);
  const rows = <i32>s.rows, channels = <i32>s.channels, kBlock = <i32>s.kBlock, flip = s.flip != 0;
  const padded = <usize>(rows + 3) & ~3, step = (padded * <usize>channels) << 2;
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

/** Positions of the target at which tiles of 2x2 outputs lie, and how they are cut. Lengths are in elements. */
@unmanaged class Tiles {
  source: f64; packed: f64; target: f64; bias: f64; scratch: f64; scratchStride: f64; channels: f64; rows: f64; kBlock: f64;
  sourceHeight: f64; sourceWidth: f64; targetHeight: f64; targetWidth: f64; originHeight: f64; originWidth: f64;
  /** Tile rows of one image, of all images, of a unit; tile columns of a row and of a unit. */
  imageLines: f64; lines: f64; unitLines: f64; columns: f64; unitColumns: f64; columnUnits: f64;
  /** Rows of the target that a unit computes, and how many at a time; tiles from channel to channel in scratch memory. */
  unitRows: f64; rowUnits: f64; rowBlock: f64; length: f64; copyFloats: f64;
}

/**
 * target = kernels * source (+ bias). Unit u is some lines of tiles and some rows of the target. For each block of tiles:
 * all channels of the source transformed, 16 products [rows, channels] [channels, tiles], and the transform back, with
 * all three in scratch memory that stays in the second-level cache.
 */
export function winograd_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Tiles>(args);
  const channels = <i32>s.channels, rows = <i32>s.rows, kBlock = <i32>s.kBlock, imageLines = <i32>s.imageLines;
  const height = <i32>s.sourceHeight, width = <i32>s.sourceWidth, bottom = <i32>s.targetHeight, right = <i32>s.targetWidth;
  const plane = (<usize>s.sourceHeight * <usize>s.sourceWidth) << 2;
  const targetRow = <usize>s.targetWidth << 2, targetPlane = <usize>s.targetHeight * targetRow;
  const padded = <usize>(rows + 3) & ~3, length = <usize>s.length << 2, rowBlock = <i32>s.rowBlock;
  const spot = <usize>s.scratch + <usize>worker * <usize>s.scratchStride, copy = spot + 64;
  // An odd number of cache lines from component to component: the 16 that a transform touches lie in 16 cache sets.
  const v = copy + (<usize>s.copyFloats << 2), vStep = <usize>channels * length | 64;
  const m = v + (vStep << 4), mStep = <usize>rowBlock * length | 64;
  const columnUnits = <i32>s.columnUnits, rowUnits = <i32>s.rowUnits;
  for (let u = lo; u < hi; u++) {
    const firstRow = u % rowUnits * <i32>s.unitRows, lastRow = min(rows, firstRow + <i32>s.unitRows);
    const w = u / rowUnits;
    const column = w % columnUnits * <i32>s.unitColumns, columns = min(<i32>s.unitColumns, <i32>s.columns - column);
    const firstLine = w / columnUnits * <i32>s.unitLines, lastLine = min(<i32>s.lines, firstLine + <i32>s.unitLines);
    const tiles = (lastLine - firstLine) * columns;
    const copied = ((columns + 3) & ~3) * 2 + 2, copyBytes = <usize>copied << 2;
    const left = <i32>s.originWidth + 2 * column;
    const firstImage = <usize>(firstLine / imageLines), firstHeight = firstLine % imageLines << 1;

    for (let c: usize = 0; c < <usize>channels; c++) {
      let to = v + c * length;
      for (let line = firstLine; line < lastLine; ) {
        const image = line / imageLines, first = line % imageLines;
        const n = min(imageLines - first, lastLine - line);
        const from = <usize>s.source + (<usize>image * <usize>channels + c) * plane;
        let h = <i32>s.originHeight + 2 * first;
        for (let at = copy, end = copy + <usize>(2 * n + 2) * copyBytes; at < end; at += copyBytes, h++) {
          if (<u32>h < <u32>height) copyRow(at, from + ((<usize>h * <usize>width) << 2), left, 1, copied, width);
          else zeroRun(at, copied);
        }
        // A last quad that is not whole writes on; the next line, or nothing, lies there.
        for (let i = 0, at = copy; i < n; i++, at += copyBytes << 1, to += <usize>columns << 2) {
          for (let j: usize = 0; j < <usize>columns; j += 4) inputTiles(at + (j << 3), copyBytes, to + (j << 2), vStep);
        }
        line += n;
      }
    }

    for (let block = firstRow; block < lastRow; block += rowBlock) {
      const blockEnd = min(lastRow, block + rowBlock);
      for (let component: usize = 0; component < 16; component++) {
        const packed = <usize>s.packed + ((component * padded * <usize>channels) << 2);
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
            if (n == 8 && below) {
              outputTiles(from + (<usize>j << 2), mStep, shift, to, below);
              continue;
            }
            outputTiles(from + (<usize>j << 2), mStep, shift, spot, 32);
            for (let i: usize = 0; i < <usize>n << 2; i += 4) store<f32>(to + i, load<f32>(spot + i));
            if (below) for (let i: usize = 0; i < <usize>n << 2; i += 4) store<f32>(to + below + i, load<f32>(spot + i, 32));
          }
        }
      }
    }
  }
}
