// Softmax along the rows of [rows, size], cross entropy, and their gradients. Unit u is row u. The last 1 to 3 elements
// of a row go through the same vector code, filled up with what leaves the result alone. The largest value is taken
// without regard to NaN: expDown then carries a NaN, and that of inf - inf, into the sum and so into the whole row.

import { expDown, splat } from "./lib_math";
import { sumLanes, widen } from "./lib_moments";
import { sumRun } from "./lib_runs";

/** Bytes summed in float32 before the sum goes to float64. */
const BLOCK: usize = 1024;

/** The n (1 to 4) floats at p, and `rest` in the other lanes. */
// @ts-ignore: decorator
@inline function loadPart(p: usize, n: usize, rest: f32): v128 {
  let v = splat(rest);
  v = v128.load_lane<u32>(p, v, 0);
  if (n > 1) v = v128.load_lane<u32>(p, v, 1, 4);
  if (n > 2) v = v128.load_lane<u32>(p, v, 2, 8);
  return v;
}

// @ts-ignore: decorator
@inline function storePart(p: usize, n: usize, v: v128): void {
  v128.store_lane<u32>(p, v, 0);
  if (n > 1) v128.store_lane<u32>(p, v, 1, 4);
  if (n > 2) v128.store_lane<u32>(p, v, 2, 8);
}

function largest(p: usize, vectors: usize, left: usize): f32 {
  let a = splat(-Infinity), b = a, c = a, d = a;
  for (; p + 64 <= vectors; p += 64) {
    a = f32x4.pmax(a, v128.load(p)); b = f32x4.pmax(b, v128.load(p, 16));
    c = f32x4.pmax(c, v128.load(p, 32)); d = f32x4.pmax(d, v128.load(p, 48));
  }
  for (; p < vectors; p += 16) a = f32x4.pmax(a, v128.load(p));
  if (left > 0) b = f32x4.pmax(b, loadPart(p, left, -Infinity));
  a = f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d));
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 1, 0, 3, 2));
  return f32x4.extract_lane(a, 0);
}

/** Sum of e^(x - top); with `keep`, the terms go to y as well. */
// @ts-ignore: decorator
@inline function sumExp(keep: bool, x: usize, y: usize, vectors: usize, left: usize, top: v128): f64 {
  let wide = f64x2.splat(0);
  while (x < vectors) {
    let a = splat(0), b = a;
    const stop = min(vectors, x + BLOCK);
    for (; x + 32 <= stop; x += 32, y += 32) {
      const e = expDown(f32x4.sub(v128.load(x), top)), f = expDown(f32x4.sub(v128.load(x, 16), top));
      if (keep) { v128.store(y, e); v128.store(y, f, 16); }
      a = f32x4.add(a, e); b = f32x4.add(b, f);
    }
    if (x < stop) {
      const e = expDown(f32x4.sub(v128.load(x), top));
      if (keep) v128.store(y, e);
      a = f32x4.add(a, e);
      x += 16; y += 16;
    }
    wide = f64x2.add(wide, widen(f32x4.add(a, b)));
  }
  if (left > 0) {
    const e = expDown(f32x4.sub(loadPart(x, left, -Infinity), top));
    if (keep) storePart(y, left, e);
    wide = f64x2.add(wide, widen(e));
  }
  return sumLanes(wide);
}

function softmaxRow(x: usize, y: usize, size: usize): void {
  const vectors = x + ((size & ~3) << 2), left = size & 3, top = splat(largest(x, vectors, left));
  const scale = splat(<f32>(1 / sumExp(true, x, y, vectors, left, top)));
  const end = y + ((size & ~3) << 2);
  for (; y < end; y += 16) v128.store(y, f32x4.mul(v128.load(y), scale));
  if (left > 0) storePart(y, left, f32x4.mul(loadPart(y, left, 0), scale));
}

function logSoftmaxRow(x: usize, y: usize, size: usize): void {
  const vectors = x + ((size & ~3) << 2), left = size & 3, top = splat(largest(x, vectors, left));
  // The logarithm in float64: where one class has nearly all, log(1 + little) keeps the digits of little.
  const logSum = splat(<f32>Math.log(sumExp(false, x, y, vectors, left, top)));
  for (; x < vectors; x += 16, y += 16) v128.store(y, f32x4.sub(f32x4.sub(v128.load(x), top), logSum));
  if (left > 0) storePart(y, left, f32x4.sub(f32x4.sub(loadPart(x, left, 0), top), logSum));
}

@unmanaged class Softmax { x: f64; y: f64; size: f64; log: f64; }

export function softmax(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Softmax>(args);
  const size = <usize>a.size;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const from = (u * size) << 2;
    if (a.log != 0) logSoftmaxRow(<usize>a.x + from, <usize>a.y + from, size);
    else softmaxRow(<usize>a.x + from, <usize>a.y + from, size);
  }
}

function dotRun(p: usize, q: usize, vectors: usize, left: usize): f64 {
  let wide = f64x2.splat(0);
  while (p < vectors) {
    let a = splat(0), b = a;
    const stop = min(vectors, p + BLOCK);
    for (; p + 32 <= stop; p += 32, q += 32) {
      a = f32x4.add(a, f32x4.mul(v128.load(p), v128.load(q)));
      b = f32x4.add(b, f32x4.mul(v128.load(p, 16), v128.load(q, 16)));
    }
    if (p < stop) {
      a = f32x4.add(a, f32x4.mul(v128.load(p), v128.load(q)));
      p += 16; q += 16;
    }
    wide = f64x2.add(wide, widen(f32x4.add(a, b)));
  }
  let total = sumLanes(wide);
  for (; left > 0; left--, p += 4, q += 4) total += <f64>load<f32>(p) * <f64>load<f32>(q);
  return total;
}

@unmanaged class SoftmaxGrad { y: f64; dy: f64; dx: f64; size: f64; log: f64; }

// @ts-ignore: decorator
@inline function gradient(log: bool, y: v128, dy: v128, sum: v128): v128 {
  return log ? f32x4.sub(dy, f32x4.mul(expDown(y), sum)) : f32x4.mul(y, f32x4.sub(dy, sum));
}

// @ts-ignore: decorator
@inline function gradientRow(log: bool, y: usize, dy: usize, dx: usize, size: usize): void {
  const vectors = y + ((size & ~3) << 2), left = size & 3;
  const sum = splat(<f32>(log ? sumRun(dy, size) : dotRun(y, dy, vectors, left)));
  for (; y < vectors; y += 16, dy += 16, dx += 16) v128.store(dx, gradient(log, v128.load(y), v128.load(dy), sum));
  if (left > 0) storePart(dx, left, gradient(log, loadPart(y, left, 0), loadPart(dy, left, 0), sum));
}

/** softmax: dx = y (dy - sum(y dy)); log-softmax: dx = dy - exp(y) sum(dy). */
export function softmax_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<SoftmaxGrad>(args);
  const size = <usize>a.size;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const from = (u * size) << 2;
    if (a.log != 0) gradientRow(true, <usize>a.y + from, <usize>a.dy + from, <usize>a.dx + from, size);
    else gradientRow(false, <usize>a.y + from, <usize>a.dy + from, <usize>a.dx + from, size);
  }
}

@unmanaged class CrossEntropy {
  logits: f64; target: f64; logProbs: f64; losses: f64; classes: f64; smoothing: f64; ignore: f64;
}

export function cross_entropy(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<CrossEntropy>(args);
  const classes = <usize>a.classes, smoothing = a.smoothing;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const p = <usize>a.logProbs + ((u * classes) << 2);
    logSoftmaxRow(<usize>a.logits + ((u * classes) << 2), p, classes);
    const target = load<i32>(<usize>a.target + (u << 2));
    let loss: f64 = 0;
    if (target != <i32>a.ignore) {
      loss = -(1 - smoothing) * <f64>load<f32>(p + (<usize>target << 2));
      // Without smoothing the sum must not enter: it may be infinite, and 0 times infinity is NaN.
      if (smoothing != 0) loss -= smoothing / a.classes * sumRun(p, classes);
    }
    store<f32>(<usize>a.losses + (u << 2), <f32>loss);
  }
}

@unmanaged class CrossEntropyGrad {
  logProbs: f64; target: f64; scale: f64; dx: f64; classes: f64; smoothing: f64; ignore: f64;
}

export function cross_entropy_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<CrossEntropyGrad>(args);
  const classes = <usize>a.classes, share = splat(<f32>(a.smoothing / a.classes)), left = classes & 3;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    let p = <usize>a.logProbs + ((u * classes) << 2), q = <usize>a.dx + ((u * classes) << 2);
    const end = p + ((classes & ~3) << 2), target = load<i32>(<usize>a.target + (u << 2));
    if (target == <i32>a.ignore) {
      memory.fill(q, 0, classes << 2);
      continue;
    }
    const scale = load<f32>(<usize>a.scale + (u << 2)), wide = splat(scale);
    // In float64 and by expm1: softmax - 1 would cancel for a confident prediction.
    const off = Math.expm1(<f64>load<f32>(p + (<usize>target << 2))) + a.smoothing - a.smoothing / a.classes;
    const place = q + (<usize>target << 2);
    for (; p < end; p += 16, q += 16) v128.store(q, f32x4.mul(wide, f32x4.sub(expDown(v128.load(p)), share)));
    if (left > 0) storePart(q, left, f32x4.mul(wide, f32x4.sub(expDown(loadPart(p, left, 0)), share)));
    store<f32>(place, <f32>(<f64>scale * off));
  }
}
