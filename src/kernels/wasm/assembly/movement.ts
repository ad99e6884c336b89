// Copies of 4-byte elements between strided places, and rows picked by index. Addresses wrap modulo 2^32, so that a
// negative stride is an ordinary addition.

/** Followed by `rank` lengths, `rank` strides of x and `rank` strides of y, in elements. */
@unmanaged class Strided { x: f64; y: f64; rank: f64; unit: f64; total: f64; }

// @ts-ignore: decorator
@inline function length(args: usize, axis: i32): u32 {
  return <u32>load<f64>(args + offsetof<Strided>() + (<usize>axis << 3));
}

/** In bytes. */
// @ts-ignore: decorator
@inline function xStride(args: usize, rank: i32, axis: i32): usize {
  return <usize>(<i32>load<f64>(args + offsetof<Strided>() + (<usize>(rank + axis) << 3)) << 2);
}

// @ts-ignore: decorator
@inline function yStride(args: usize, rank: i32, axis: i32): usize {
  return <usize>(<i32>load<f64>(args + offsetof<Strided>() + (<usize>(2 * rank + axis) << 3)) << 2);
}

/** Position `at` on the outer axes 0 .. axes - 1, counted row by row, as a distance in x; and the same for y. */
function xPlace(args: usize, rank: i32, axes: i32, at: u32): usize {
  let place: usize = 0;
  for (let axis = axes - 1; axis >= 0; axis--) {
    const n = length(args, axis);
    place += <usize>(at % n) * xStride(args, rank, axis);
    at /= n;
  }
  return place;
}

function yPlace(args: usize, rank: i32, axes: i32, at: u32): usize {
  let place: usize = 0;
  for (let axis = axes - 1; axis >= 0; axis--) {
    const n = length(args, axis);
    place += <usize>(at % n) * yStride(args, rank, axis);
    at /= n;
  }
  return place;
}

// @ts-ignore: decorator
@inline function copyRun(p: usize, q: usize, n: usize): void {
  const end = p + (n << 2);
  for (; p + 64 <= end; p += 64, q += 64) {
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    v128.store(q, a); v128.store(q, b, 16); v128.store(q, c, 32); v128.store(q, d, 48);
  }
  for (; p + 16 <= end; p += 16, q += 16) v128.store(q, v128.load(p));
  for (; p < end; p += 4, q += 4) store<u32>(q, load<u32>(p));
}

function copyLine(p: usize, xs: usize, q: usize, ys: usize, n: u32): void {
  if (ys == 4 && xs == 4) return copyRun(p, q, n);
  if (ys == 4 && xs == 0) {
    const v = load<u32>(p), wide = i32x4.splat(v), end = q + (<usize>n << 2);
    for (; q + 16 <= end; q += 16) v128.store(q, wide);
    for (; q < end; q += 4) store<u32>(q, v);
    return;
  }
  for (let i: u32 = 0; i < n; i++, p += xs, q += ys) store<u32>(q, load<u32>(p));
}

/**
 * Line by line along the last axis; rank is at least 3. Unit u is the elements [u * unit, (u + 1) * unit), counted row
 * by row. The three inner axes are stepped through, the others found by division, once for each turn of the three.
 */
export function copy_strided(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Strided>(args);
  const rank = <i32>a.rank, unit = <u32>a.unit;
  const n0 = length(args, rank - 1), n1 = length(args, rank - 2), n2 = length(args, rank - 3);
  const xs0 = xStride(args, rank, rank - 1), xs1 = xStride(args, rank, rank - 2), xs2 = xStride(args, rank, rank - 3);
  const ys0 = yStride(args, rank, rank - 1), ys1 = yStride(args, rank, rank - 2), ys2 = yStride(args, rank, rank - 3);
  let left = min(<u32>hi * unit, <u32>a.total) - <u32>lo * unit;
  const line = <u32>lo * unit / n0;
  let i0 = <u32>lo * unit % n0, i1 = line % n1, i2 = line / n1 % n2, rest = line / n1 / n2;
  while (left > 0) {
    const x2 = <usize>a.x + xPlace(args, rank, rank - 3, rest);
    const y2 = <usize>a.y + yPlace(args, rank, rank - 3, rest);
    for (; i2 < n2 && left > 0; i2++) {
      let p = x2 + <usize>i2 * xs2 + <usize>i1 * xs1 + <usize>i0 * xs0;
      let q = y2 + <usize>i2 * ys2 + <usize>i1 * ys1 + <usize>i0 * ys0;
      for (; i1 < n1 && left > 0; i1++) {
        const run = min(n0 - i0, left);
        copyLine(p, xs0, q, ys0, run);
        p += xs1 - <usize>i0 * xs0;
        q += ys1 - <usize>i0 * ys0;
        left -= run;
        i0 = 0;
      }
      i1 = 0;
    }
    i2 = 0;
    rest++;
  }
}

/**
 * Tiles of 16 along a by 64 along b: whole cache lines of x and y are used while in cache. Four lines of y are written
 * from end to end at a time, since lines that lie a large power of two apart push each other out.
 */
const A_TILE: u32 = 16;
const B_TILE: u32 = 64;

/**
 * The last axis but one, a, has x stride 1; the last, b, has y stride 1. Units are tiles of a by b for each place on the
 * outer axes.
 */
export function transpose(args: usize, lo: i32, hi: i32, worker: i32): void {
  const s = changetype<Strided>(args);
  const rank = <i32>s.rank;
  const na = length(args, rank - 2), nb = length(args, rank - 1);
  const xs = xStride(args, rank, rank - 1), ys = yStride(args, rank, rank - 2);
  const aTiles = (na + A_TILE - 1) / A_TILE, bTiles = (nb + B_TILE - 1) / B_TILE;
  for (let u = <u32>lo; u < <u32>hi; u++) {
    const a0 = u % aTiles * A_TILE, b0 = u / aTiles % bTiles * B_TILE, rest = u / aTiles / bTiles;
    const a1 = min(a0 + A_TILE, na), b1 = min(b0 + B_TILE, nb);
    const x = <usize>s.x + xPlace(args, rank, rank - 2, rest);
    const y = <usize>s.y + yPlace(args, rank, rank - 2, rest);
    const a4 = a0 + ((a1 - a0) & ~3), b4 = b0 + ((b1 - b0) & ~3);
    for (let a = a0; a < a4; a += 4) {
      let p = x + <usize>b0 * xs + (<usize>a << 2), q = y + <usize>a * ys + (<usize>b0 << 2);
      for (let b = b0; b < b4; b += 4, p += 4 * xs, q += 16) {
        const r0 = v128.load(p), r1 = v128.load(p + xs), r2 = v128.load(p + 2 * xs), r3 = v128.load(p + 3 * xs);
        const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
        const t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
        v128.store(q, v128.shuffle<f32>(t0, t2, 0, 1, 4, 5));
        v128.store(q + ys, v128.shuffle<f32>(t0, t2, 2, 3, 6, 7));
        v128.store(q + 2 * ys, v128.shuffle<f32>(t1, t3, 0, 1, 4, 5));
        v128.store(q + 3 * ys, v128.shuffle<f32>(t1, t3, 2, 3, 6, 7));
      }
      for (let b = b4; b < b1; b++, p += xs, q += 4) {
        for (let i: usize = 0; i < 4; i++) store<u32>(q + i * ys, load<u32>(p + (i << 2)));
      }
    }
    for (let a = a4; a < a1; a++) {
      let p = x + <usize>b0 * xs + (<usize>a << 2), q = y + <usize>a * ys + (<usize>b0 << 2);
      for (let b = b0; b < b1; b++, p += xs, q += 4) store<u32>(q, load<u32>(p));
    }
  }
}

@unmanaged class Embedding { table: f64; index: f64; y: f64; width: f64; }

/** Unit u is row u of y. */
export function embedding(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Embedding>(args);
  const table = <usize>a.table, width = <usize>a.width, index = <usize>a.index;
  for (let i = <usize>lo; i < <usize>hi; i++) {
    copyRun(table + ((<usize>load<u32>(index + (i << 2)) * width) << 2), <usize>a.y + ((i * width) << 2), width);
  }
}

@unmanaged class EmbeddingGrad { index: f64; dy: f64; dTable: f64; width: f64; count: f64; owners: f64; }

/**
 * Unit u owns the table's rows r with r % owners = u (owners is a power of two): so rows that are used often are shared
 * out. It walks all indices in order, so each element sees its additions in the order of i.
 */
export function embedding_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<EmbeddingGrad>(args);
  const mask = <u32>a.owners - 1, rowBytes = <usize>a.width << 2, vectors = rowBytes & ~15;
  const index = <usize>a.index, end = index + (<usize>a.count << 2);
  for (let u = <u32>lo; u < <u32>hi; u++) {
    let dy = <usize>a.dy;
    for (let i = index; i < end; i += 4, dy += rowBytes) {
      const row = load<u32>(i);
      if ((row & mask) != u) continue;
      const to = <usize>a.dTable + <usize>row * rowBytes;
      let j: usize = 0;
      for (; j < vectors; j += 16) v128.store(to + j, f32x4.add(v128.load(to + j), v128.load(dy + j)));
      for (; j < rowBytes; j += 4) store<f32>(to + j, load<f32>(to + j) + load<f32>(dy + j));
    }
  }
}
