// Reductions over the middle axis of [outer, reduce, inner]. Rows (inner = 1) run along memory; columns (inner > 1) take
// whole rows of x side by side. Long axes are cut into pieces by shape alone, and their results merged in order.

import { find, larger, maxRun, minRun, prodRun, smaller, sumAbsRun, sumRun } from "./lib_runs";
import { sumSquares } from "./lib_moments";

const SUM: i32 = 0;
const MAX: i32 = 1;
const MIN: i32 = 2;
const PROD: i32 = 3;
const SQUARES: i32 = 4;
const ABS: i32 = 5;

@unmanaged class Rows { x: f64; y: f64; reduce: f64; pieces: f64; piece: f64; op: f64; }

/** Unit u is piece u % pieces of row u / pieces. With one piece the result goes to y, else y holds float64 partials. */
export function reduce_rows(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Rows>(args);
  const reduce = <usize>a.reduce, pieces = <usize>a.pieces, piece = <usize>a.piece, op = <i32>a.op;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const from = u % pieces * piece, n = min(piece, reduce - from);
    const p = <usize>a.x + ((u / pieces * reduce + from) << 2);
    let result: f64 = 0;
    if (op == SUM) result = sumRun(p, n);
    else if (op == MAX) result = maxRun(p, n);
    else if (op == MIN) result = minRun(p, n);
    else if (op == PROD) result = prodRun(p, n);
    else if (op == SQUARES) result = sumSquares(p, n);
    else result = sumAbsRun(p, n);
    if (pieces == 1) store<f32>(<usize>a.y + (u << 2), <f32>result);
    else store<f64>(<usize>a.y + (u << 3), result);
  }
}

// @ts-ignore: decorator
@inline function take(op: i32, p: usize, bytes: usize): v128 {
  const v = bytes == 16 ? v128.load(p) : v128.load_zero<u32>(p);
  return op == ABS ? f32x4.abs(v) : v;
}

// @ts-ignore: decorator
@inline function join(op: i32, a: v128, b: v128): v128 {
  return op == MAX ? larger(a, b) : op == MIN ? smaller(a, b) : f32x4.add(a, b);
}

/** `count` (1, 4 or 8) rows at p, `row` bytes apart, join the results at q as a tree, `bytes` (16 or 4) at a time. */
// @ts-ignore: decorator
@inline function joinRows(op: i32, count: i32, bytes: usize, p: usize, row: usize, q: usize, end: usize): void {
  for (; q < end; p += bytes, q += bytes) {
    let v = take(op, p, bytes);
    if (count > 1) {
      v = join(op, join(op, v, take(op, p + row, bytes)), join(op, take(op, p + 2 * row, bytes), take(op, p + 3 * row, bytes)));
    }
    if (count > 4) {
      const s = p + 4 * row;
      const w = join(op, take(op, s + 2 * row, bytes), take(op, s + 3 * row, bytes));
      v = join(op, v, join(op, join(op, take(op, s, bytes), take(op, s + row, bytes)), w));
    }
    if (bytes == 16) v128.store(q, join(op, v128.load(q), v));
    else v128.store_lane<u32>(q, join(op, v128.load_zero<u32>(q), v), 0);
  }
}

/** q[0 .. n] = the reduction of `rows` rows of n floats at p, which lie `row` bytes apart. */
// @ts-ignore: decorator
@inline function reduceStrip(op: i32, p: usize, row: usize, rows: usize, q: usize, n: usize): void {
  const tail = (n & ~3) << 2, vectors = q + tail, end = q + (n << 2);
  const empty: f32 = op == MAX ? -Infinity : op == MIN ? Infinity : 0;
  for (let s = q; s < end; s += 4) store<f32>(s, empty);
  for (; rows >= 8; rows -= 8, p += 8 * row) {
    joinRows(op, 8, 16, p, row, q, vectors);
    joinRows(op, 8, 4, p + tail, row, vectors, end);
  }
  for (; rows >= 4; rows -= 4, p += 4 * row) {
    joinRows(op, 4, 16, p, row, q, vectors);
    joinRows(op, 4, 4, p + tail, row, vectors, end);
  }
  for (; rows > 0; rows--, p += row) {
    joinRows(op, 1, 16, p, row, q, vectors);
    joinRows(op, 1, 4, p + tail, row, vectors, end);
  }
}

// @ts-ignore: decorator
@inline function takeWide(op: i32, p: usize): v128 {
  const v = f64x2.promote_low_f32x4(v128.load_zero<u64>(p));
  return op == SQUARES ? f64x2.mul(v, v) : v;
}

// @ts-ignore: decorator
@inline function takeWide1(op: i32, p: usize): f64 {
  const v = <f64>load<f32>(p);
  return op == SQUARES ? v * v : v;
}

// @ts-ignore: decorator
@inline function joinWide(op: i32, a: v128, b: v128): v128 { return op == PROD ? f64x2.mul(a, b) : f64x2.add(a, b); }

// @ts-ignore: decorator
@inline function joinWide1(op: i32, a: f64, b: f64): f64 { return op == PROD ? a * b : a + b; }

/** `count` (1 or 4) rows at p join the n float64 results at q. */
// @ts-ignore: decorator
@inline function joinRowsWide(op: i32, count: i32, p: usize, row: usize, q: usize, n: usize): void {
  const vectors = q + ((n & ~1) << 3);
  for (; q < vectors; p += 8, q += 16) {
    let v = takeWide(op, p);
    if (count > 1) {
      const w = joinWide(op, takeWide(op, p + 2 * row), takeWide(op, p + 3 * row));
      v = joinWide(op, joinWide(op, v, takeWide(op, p + row)), w);
    }
    v128.store(q, joinWide(op, v128.load(q), v));
  }
  if ((n & 1) == 0) return;
  let v = takeWide1(op, p);
  if (count > 1) {
    const w = joinWide1(op, takeWide1(op, p + 2 * row), takeWide1(op, p + 3 * row));
    v = joinWide1(op, joinWide1(op, v, takeWide1(op, p + row)), w);
  }
  store<f64>(q, joinWide1(op, load<f64>(q), v));
}

/** Products and squares are kept in float64, since they leave the range of float32 before the result does. */
// @ts-ignore: decorator
@inline function reduceStripWide(op: i32, p: usize, row: usize, rows: usize, q: usize, n: usize): void {
  for (let s = q; s < q + (n << 3); s += 8) store<f64>(s, op == PROD ? 1 : 0);
  for (; rows >= 4; rows -= 4, p += 4 * row) joinRowsWide(op, 4, p, row, q, n);
  for (; rows > 0; rows--, p += row) joinRowsWide(op, 1, p, row, q, n);
}

@unmanaged class Columns {
  x: f64; partial: f64; reduce: f64; inner: f64; pieces: f64; piece: f64; strips: f64; strip: f64; op: f64;
}

/** Unit (outer, piece, strip of columns) writes its part of partial [outer, pieces, inner]. */
export function reduce_columns(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Columns>(args);
  const reduce = <usize>a.reduce, inner = <usize>a.inner, op = <i32>a.op;
  const pieces = <usize>a.pieces, piece = <usize>a.piece, strips = <usize>a.strips, strip = <usize>a.strip;
  const size: usize = op == PROD || op == SQUARES ? 8 : 4, row = inner << 2;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const column = u % strips * strip, from = u / strips % pieces * piece, outer = u / strips / pieces;
    const n = min(strip, inner - column), rows = min(piece, reduce - from);
    const p = <usize>a.x + (((outer * reduce + from) * inner + column) << 2);
    const q = <usize>a.partial + (u / strips * inner + column) * size;
    if (op == SUM) reduceStrip(SUM, p, row, rows, q, n);
    else if (op == MAX) reduceStrip(MAX, p, row, rows, q, n);
    else if (op == MIN) reduceStrip(MIN, p, row, rows, q, n);
    else if (op == ABS) reduceStrip(ABS, p, row, rows, q, n);
    else if (op == PROD) reduceStripWide(PROD, p, row, rows, q, n);
    else reduceStripWide(SQUARES, p, row, rows, q, n);
  }
}

@unmanaged class Merge { partial: f64; y: f64; inner: f64; pieces: f64; op: f64; }

/** Unit u is element u of y [outer, inner]: its partials, one from each piece, joined in order in float64. */
export function merge_columns(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Merge>(args);
  const inner = <usize>a.inner, pieces = <usize>a.pieces, op = <i32>a.op;
  const wide = op == PROD || op == SQUARES, step = inner << (wide ? 3 : 2);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    let p = <usize>a.partial + ((u / inner * pieces * inner + u % inner) << (wide ? 3 : 2));
    let result: f64 = wide ? load<f64>(p) : load<f32>(p);
    for (let i: usize = 1; i < pieces; i++) {
      p += step;
      const v: f64 = wide ? load<f64>(p) : load<f32>(p);
      result = op == MAX ? max(result, v) : op == MIN ? min(result, v) : op == PROD ? result * v : result + v;
    }
    store<f32>(<usize>a.y + (u << 2), <f32>result);
  }
}

@unmanaged class ArgMax { x: f64; y: f64; reduce: f64; inner: f64; strips: f64; strip: f64; best: f64; }

/** Floats searched at once: first for their largest value, then, if it beats what came before, for its place. */
const SEARCH: usize = 1024;

/** Unit u is a row. */
export function arg_max_rows(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ArgMax>(args);
  const reduce = <usize>a.reduce;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const p = <usize>a.x + ((u * reduce) << 2);
    let best = load<f32>(p), at: usize = 0;
    for (let from: usize = 0; from < reduce && best == best; from += SEARCH) {
      const q = p + (from << 2), n = min(SEARCH, reduce - from), top = maxRun(q, n);
      if (top <= best) continue;
      best = top;
      at = from + find(top, q, n);
    }
    store<i32>(<usize>a.y + (u << 2), <i32>at);
  }
}

/** Unit (outer, strip of columns). The largest values so far lie in the thread's strip of `best`, their rows in y. */
export function arg_max_columns(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<ArgMax>(args);
  const reduce = <usize>a.reduce, inner = <usize>a.inner, strips = <usize>a.strips, strip = <usize>a.strip;
  const best = <usize>a.best + ((<usize>worker * strip) << 2);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const column = u % strips * strip, first = u / strips * reduce * inner + column;
    const end = best + (min(strip, inner - column) << 2), vectors = best + ((min(strip, inner - column) & ~3) << 2);
    const y = <usize>a.y + ((u / strips * inner + column) << 2);
    for (let r: usize = 0; r < reduce; r++) {
      let p = <usize>a.x + ((first + r * inner) << 2), b = best, q = y;
      if (r == 0) {
        for (; b < end; p += 4, b += 4, q += 4) {
          store<f32>(b, load<f32>(p));
          store<i32>(q, 0);
        }
        continue;
      }
      const row = i32x4.splat(<i32>r);
      for (; b < vectors; p += 16, b += 16, q += 16) {
        const v = v128.load(p), top = v128.load(b);
        // v beats top if it is larger, or NaN where top is not.
        const beats = v128.andnot(v128.not(f32x4.le(v, top)), f32x4.ne(top, top));
        v128.store(b, v128.bitselect(v, top, beats));
        v128.store(q, v128.bitselect(row, v128.load(q), beats));
      }
      for (; b < end; p += 4, b += 4, q += 4) {
        const v = load<f32>(p), top = load<f32>(b);
        if (v <= top || top != top) continue;
        store<f32>(b, v);
        store<i32>(q, <i32>r);
      }
    }
  }
}
