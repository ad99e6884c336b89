import { ADD, COLUMN_BIAS, packQuad, packStrip, ROW_BIAS, stripTiles } from "./lib_gemm";

@unmanaged class PackRows {
  a: f64; packed: f64; m: f64; k: f64; kBlock: f64; row: f64; depth: f64; batchBytes: f64; groups: f64;
}

/**
 * Packs A for matmul_tiles: for each block of kBlock steps all panels of 4 rows, each [steps, 4], padded with zero rows.
 * A's elements lie `row` and `depth` bytes apart. Unit u is 16 rows of one matrix.
 */
export function matmul_pack(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<PackRows>(args);
  const m = <i32>s.m, k = <i32>s.k, kBlock = <i32>s.kBlock, groups = <i32>s.groups;
  const row = <usize>s.row, depth = <usize>s.depth;
  const padded = <usize>(m + 3) & ~3;
  for (let u = lo; u < hi; u++) {
    const batch = <usize>(u / groups), first = (u % groups) << 4;
    const a = <usize>s.a + batch * <usize>s.batchBytes;
    const packed = <usize>s.packed + ((batch * padded * <usize>k) << 2);
    for (let from = 0; from < k; from += kBlock) {
      const kc = min(kBlock, k - from);
      const block = packed + ((<usize>from * padded) << 2);
      for (let i = first; i < min(first + 16, m); i += 4) {
        const src = a + <usize>i * row + <usize>from * depth;
        packQuad(src, row, depth, min(4, m - i), kc, block + ((<usize>i * <usize>kc) << 2), 16);
      }
    }
  }
}

@unmanaged class Tiles {
  packed: f64; b: f64; y: f64; bias: f64; m: f64; n: f64; k: f64; kBlock: f64; packedBatch: f64; bBatch: f64; yBatch: f64;
  /** Matrix i of the batch takes matrix i mod `matrices` of A; biasBatch: bytes from the bias of one to the next, if by rows. */
  matrices: f64; byRows: f64; biasBatch: f64;
  lane: f64; depth: f64; rowBlock: f64; rowBlocks: f64; strips: f64; add: f64; scratch: f64; scratchStride: f64;
}

/**
 * y = A B (+ bias), or y += A B. Unit u is a strip of 16 columns of one block of rows of one matrix. The strip of B
 * is packed into scratch memory where it stays in the first-level cache (16 KiB) while the panels of A stream past.
 * Sums run over at most kBlock steps in registers, and blocks join in order: the same bits for any split.
 */
export function matmul_tiles(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Tiles>(args);
  const m = <i32>s.m, n = <i32>s.n, k = <i32>s.k, kBlock = <i32>s.kBlock, strips = <i32>s.strips;
  const rowBlock = <i32>s.rowBlock, rowBlocks = <i32>s.rowBlocks;
  const lane = <usize>s.lane, depth = <usize>s.depth, yRow = <usize>n << 2;
  const padded = <usize>(m + 3) & ~3;
  const strip = <usize>s.scratch + <usize>worker * <usize>s.scratchStride;
  const tile = strip + (<usize>kBlock << 6), matrices = <usize>s.matrices, byRows = s.byRows != 0;
  for (let u = lo; u < hi; u++) {
    const column = (u % strips) << 4, columns = min(16, n - column);
    const v = u / strips;
    const row = v % rowBlocks * rowBlock, lastRow = min(row + rowBlock, m);
    const batch = <usize>(v / rowBlocks);
    const matrix = batch % matrices;
    const packed = <usize>s.packed + matrix * <usize>s.packedBatch;
    const b = <usize>s.b + batch * <usize>s.bBatch + <usize>column * lane;
    const y = <usize>s.y + batch * <usize>s.yBatch + (<usize>column << 2);
    const bias: usize = s.bias == 0 ? 0
      : <usize>s.bias + (byRows ? matrix * <usize>s.biasBatch + (<usize>row << 2) : <usize>column << 2);
    for (let from = 0; from < k; from += kBlock) {
      const kc = min(kBlock, k - from), join = from > 0 || s.add != 0 ? ADD : byRows ? ROW_BIAS : COLUMN_BIAS;
      packStrip(b + <usize>from * depth, lane, depth, columns, kc, strip, <usize>kc << 5);
      const a = packed + ((<usize>from * padded + <usize>row * <usize>kc) << 2);
      stripTiles(a, strip, kc, y + <usize>row * yRow, yRow, lastRow - row, columns, join, bias, tile);
    }
  }
}

@unmanaged class Direct {
  a: f64; b: f64; y: f64; bias: f64; m: f64; n: f64; k: f64; kBlock: f64; aBatch: f64; bBatch: f64; aRow: f64; aDepth: f64;
  bRow: f64; transposed: f64; biasStep: f64; strips: f64;
}

@inline function sumLanes(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** y[0..31] += a row of A times 32 columns of B: 128 neighbouring bytes of each row of B. */
function axpy32(a: usize, aDepth: usize, b: usize, bRow: usize, kc: i32, y: usize): void {
  let s0 = v128.load(y), s1 = v128.load(y, 16), s2 = v128.load(y, 32), s3 = v128.load(y, 48);
  let s4 = v128.load(y, 64), s5 = v128.load(y, 80), s6 = v128.load(y, 96), s7 = v128.load(y, 112);
  for (let p = 0; p < kc; p++, a += aDepth, b += bRow) {
    const v = v128.load32_splat(a);
    s0 = f32x4.add(s0, f32x4.mul(v, v128.load(b)));
    s1 = f32x4.add(s1, f32x4.mul(v, v128.load(b, 16)));
    s2 = f32x4.add(s2, f32x4.mul(v, v128.load(b, 32)));
    s3 = f32x4.add(s3, f32x4.mul(v, v128.load(b, 48)));
    s4 = f32x4.add(s4, f32x4.mul(v, v128.load(b, 64)));
    s5 = f32x4.add(s5, f32x4.mul(v, v128.load(b, 80)));
    s6 = f32x4.add(s6, f32x4.mul(v, v128.load(b, 96)));
    s7 = f32x4.add(s7, f32x4.mul(v, v128.load(b, 112)));
  }
  v128.store(y, s0); v128.store(y, s1, 16); v128.store(y, s2, 32); v128.store(y, s3, 48);
  v128.store(y, s4, 64); v128.store(y, s5, 80); v128.store(y, s6, 96); v128.store(y, s7, 112);
}

/** y[0..3] += dot products of a with four rows of k neighbouring elements. */
function dot4(a: usize, b: usize, bRow: usize, k: i32, y: usize): void {
  const b1 = bRow, b2 = bRow + bRow, b3 = b2 + bRow;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  let p = 0;
  for (; p + 4 <= k; p += 4, a += 16, b += 16) {
    const v = v128.load(a);
    s0 = f32x4.add(s0, f32x4.mul(v, v128.load(b)));
    s1 = f32x4.add(s1, f32x4.mul(v, v128.load(b + b1)));
    s2 = f32x4.add(s2, f32x4.mul(v, v128.load(b + b2)));
    s3 = f32x4.add(s3, f32x4.mul(v, v128.load(b + b3)));
  }
  let t0 = sumLanes(s0), t1 = sumLanes(s1), t2 = sumLanes(s2), t3 = sumLanes(s3);
  for (; p < k; p++, a += 4, b += 4) {
    const v = load<f32>(a);
    t0 += v * load<f32>(b); t1 += v * load<f32>(b + b1); t2 += v * load<f32>(b + b2); t3 += v * load<f32>(b + b3);
  }
  v128.store(y, f32x4.add(v128.load(y), f32x4(t0, t1, t2, t3)));
}

function dot(a: usize, aDepth: usize, b: usize, bDepth: usize, k: i32): f32 {
  let sum: f32 = 0;
  for (let p = 0; p < k; p++, a += aDepth, b += bDepth) sum += load<f32>(a) * load<f32>(b);
  return sum;
}

/**
 * y = A B (+ bias) without packing: for one row (packing would cost as much as the product) and for tiny matrices.
 * Unit u is 32 columns of one matrix. `transposed`: B's columns are contiguous, bRow bytes apart, else its rows.
 */
export function matmul_direct(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Direct>(args);
  const m = <i32>s.m, n = <i32>s.n, k = <i32>s.k, kBlock = <i32>s.kBlock, strips = <i32>s.strips;
  const aRow = <usize>s.aRow, aDepth = <usize>s.aDepth, bRow = <usize>s.bRow, biasStep = <usize>s.biasStep;
  const transposed = s.transposed != 0;
  const lane: usize = transposed ? bRow : 4, depth: usize = transposed ? 4 : bRow;
  for (let u = lo; u < hi; u++) {
    const column = <i32>(u % strips) << 5, columns = min(32, n - column);
    const batch = <usize>(u / strips);
    const b = <usize>s.b + batch * <usize>s.bBatch + <usize>column * lane;
    for (let i = 0; i < m; i++) {
      const y = <usize>s.y + (((batch * <usize>m + <usize>i) * <usize>n + <usize>column) << 2);
      const bias = <usize>s.bias + <usize>column * biasStep;
      for (let j: usize = 0; j < <usize>columns; j++) {
        store<f32>(y + (j << 2), s.bias == 0 ? 0 : load<f32>(bias + j * biasStep));
      }
      for (let from = 0; from < k; from += kBlock) {
        const kc = min(kBlock, k - from);
        const a = <usize>s.a + batch * <usize>s.aBatch + <usize>i * aRow + <usize>from * aDepth;
        const bk = b + <usize>from * depth;
        let j = 0;
        if (!transposed && columns == 32) {
          axpy32(a, aDepth, bk, bRow, kc, y);
          j = 32;
        } else if (!transposed) {
          for (; j + 4 <= columns; j += 4) {
            const to = y + (<usize>j << 2);
            let sum = f32x4.splat(0), from4 = bk + (<usize>j << 2), a4 = a;
            for (let p = 0; p < kc; p++, a4 += aDepth, from4 += bRow) {
              sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(a4), v128.load(from4)));
            }
            v128.store(to, f32x4.add(v128.load(to), sum));
          }
        } else if (aDepth == 4) {
          for (; j + 4 <= columns; j += 4) dot4(a, bk + <usize>j * bRow, bRow, kc, y + (<usize>j << 2));
        }
        for (; j < columns; j++) {
          const to = y + (<usize>j << 2);
          store<f32>(to, load<f32>(to) + dot(a, aDepth, bk + <usize>j * lane, depth, kc));
        }
      }
    }
  }
}
