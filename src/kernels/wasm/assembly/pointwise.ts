import { ADD, COLUMN_BIAS, packQuad, packStrip, stripTiles } from "./lib_gemm";

@unmanaged class PointWeights {
  x: f64; dy: f64; sums: f64; scratch: f64; scratchStride: f64; groups: f64; rows: f64; channels: f64;
  /** Positions of an image and of all images; positions of a part, and how many are summed at a time. */
  plane: f64; positions: f64; partPositions: f64; kBlock: f64; rowBlock: f64; rowBlocks: f64;
}

/** Packs `lanes` channels over kc positions from `position` on, which may lie in several images `image` bytes apart. */
function packPositions(
  src: usize, image: usize, plane: i32, position: i32, lanes: i32, kc: i32, dst: usize, strip: bool,
): void {
  const lane = <usize>plane << 2;
  let at = position % plane, from = src + <usize>(position / plane) * image;
  for (let done = 0; done < kc; ) {
    const n = min(plane - at, kc - done), start = from + (<usize>at << 2);
    if (strip) packStrip(start, lane, 4, lanes, n, dst + (<usize>done << 5), <usize>kc << 5);
    else packQuad(start, lane, 4, lanes, n, dst + (<usize>done << 4), 16);
    done += n;
    at = 0;
    from += image;
  }
}

/**
 * Weight gradient of a 1x1 convolution: dy x', summed over the positions of all images as if they were one row. Unit u is
 * one part of the positions, one group and one block of rows. A block of dy is packed where it stays in the second-level
 * cache, and strips of 16 channels of x pass by it, so both are read from memory once. Sums: [part][row][channel of its group].
 */
export function conv_point_weight(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<PointWeights>(args);
  const groups = <i32>s.groups, rows = <i32>s.rows, channels = <i32>s.channels, plane = <i32>s.plane;
  const kBlock = <i32>s.kBlock, rowBlock = <i32>s.rowBlock, rowBlocks = <i32>s.rowBlocks;
  const lane = <usize>plane << 2, xImage = <usize>groups * <usize>channels * lane, dyImage = <usize>groups * <usize>rows * lane;
  const block = <usize>s.scratch + <usize>worker * <usize>s.scratchStride;
  const strip = block + <usize>rowBlock * (<usize>kBlock << 2), tile = strip + (<usize>kBlock << 6);
  const yRow = <usize>channels << 2;
  for (let u = lo; u < hi; u++) {
    const row = u % rowBlocks * rowBlock, valid = min(rowBlock, rows - row);
    const v = u / rowBlocks, group = v % groups, part = v / groups;
    const x = <usize>s.x + <usize>group * <usize>channels * lane, dy = <usize>s.dy + <usize>(group * rows + row) * lane;
    const y = <usize>s.sums + <usize>((part * groups + group) * rows + row) * yRow;
    const first = part * <i32>s.partPositions, last = min(first + <i32>s.partPositions, <i32>s.positions);
    for (let from = first; from < last; from += kBlock) {
      const kc = min(kBlock, last - from);
      for (let i = 0; i < valid; i += 4) {
        const to = block + (<usize>i * <usize>kc << 2);
        packPositions(dy + <usize>i * lane, dyImage, plane, from, min(4, valid - i), kc, to, false);
      }
      for (let column = 0; column < channels; column += 16) {
        const columns = min(16, channels - column);
        packPositions(x + <usize>column * lane, xImage, plane, from, columns, kc, strip, true);
        const join = from > first ? ADD : COLUMN_BIAS;
        stripTiles(block, strip, kc, y + (<usize>column << 2), yRow, valid, columns, join, 0, tile);
      }
    }
  }
}
