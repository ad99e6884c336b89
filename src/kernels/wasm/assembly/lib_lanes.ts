// Vectors of four float32, or of the one to three that end an array: a remainder goes through the same arithmetic as
// the rest, so an element's bits do not depend on where it lies. With k the constant 4 the choice vanishes.

function loadPart(p: usize, k: usize): v128 {
  if (k == 1) return v128.load32_zero(p);
  const two = v128.load64_zero(p);
  return k == 2 ? two : v128.load32_lane(p + 8, two, 2);
}

function storePart(p: usize, k: usize, x: v128): void {
  if (k == 1) {
    v128.store32_lane(p, x, 0);
    return;
  }
  v128.store64_lane(p, x, 0);
  if (k == 3) v128.store32_lane(p + 8, x, 2);
}

/** The first k lanes from p; the others are 0. */
// @ts-ignore: decorator
@inline export function loadLanes(p: usize, k: usize): v128 {
  if (k == 4) return v128.load(p);
  return loadPart(p, k);
}

/** Stores the first k lanes at p. */
// @ts-ignore: decorator
@inline export function storeLanes(p: usize, k: usize, x: v128): void {
  if (k == 4) v128.store(p, x);
  else storePart(p, k, x);
}

/** Four elements of float32 that lie `stride` elements apart, of which the first k exist; the others are 0. */
export function gatherLanes(p: usize, stride: usize, k: usize): v128 {
  const step = stride << 2;
  let x = v128.load32_zero(p);
  if (k > 1) x = v128.load32_lane(p + step, x, 1);
  if (k > 2) x = v128.load32_lane(p + 2 * step, x, 2);
  if (k > 3) x = v128.load32_lane(p + 3 * step, x, 3);
  return x;
}

// F is a class with an inline method v; it has no instance, the type alone picks the code that is inlined.

// Two vectors a turn: TurboFan builds a constant anew at each use, and so does it once for two (a fifth less time for exp).

/** y = F(x, c) over `bytes` bytes. */
// @ts-ignore: decorator
@inline export function map<F>(x: usize, y: usize, bytes: usize, c: v128): void {
  let i: usize = 0;
  for (; i + 32 <= bytes; i += 32) {
    const first = changetype<F>(0).v(v128.load(x + i), c), second = changetype<F>(0).v(v128.load(x + i, 16), c);
    v128.store(y + i, first);
    v128.store(y + i, second, 16);
  }
  for (; i < bytes; i += 16) {
    const k = min<usize>(4, (bytes - i) >> 2);
    storeLanes(y + i, k, changetype<F>(0).v(loadLanes(x + i, k), c));
  }
}

/** y = F(a, b, c) over `bytes` bytes. */
// @ts-ignore: decorator
@inline export function map2<F>(a: usize, b: usize, y: usize, bytes: usize, c: v128): void {
  let i: usize = 0;
  for (; i + 32 <= bytes; i += 32) {
    const first = changetype<F>(0).v(v128.load(a + i), v128.load(b + i), c);
    const second = changetype<F>(0).v(v128.load(a + i, 16), v128.load(b + i, 16), c);
    v128.store(y + i, first);
    v128.store(y + i, second, 16);
  }
  for (; i < bytes; i += 16) {
    const k = min<usize>(4, (bytes - i) >> 2);
    storeLanes(y + i, k, changetype<F>(0).v(loadLanes(a + i, k), loadLanes(b + i, k), c));
  }
}

/** Where unit u of `unit` four-byte elements begins, in bytes, for an array of `length`. */
// @ts-ignore: decorator
@inline export function unitByte(u: i32, unit: f64, length: f64): usize {
  return min(<usize>u * <usize>unit, <usize>length) << 2;
}
