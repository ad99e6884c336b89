// Moments of contiguous float32 runs, accurate whatever the data's offset, order or outliers.
//
// A chunk is summed about a shift close to its mean: d = x - shift, sums of d and d^2. Eight vectors are added as a tree, a block of
// 256 floats in float32 and blocks in float64: a lane then sees 8 additions in a row, so that even values that all round the
// same way (constant or two-valued data) keep the sum of squares within 2e-7, and its root within 1e-7.
// The shift is the mean of 32 samples. Where it lies further than one standard deviation from the mean (an outlier
// among the samples), S2 - S1^2/n would cancel, and the chunk is summed once more about the mean just found.
// Squares that leave the range of float32, NaN and infinity take a path in float64.

/** Number of values, their mean, and the sum of squared deviations from it. Start from zeros. */
@unmanaged export class Moments { count: f64; mean: f64; m2: f64; }

/** Floats that share a shift: small enough for the second sum to find them in the first-level cache. */
const CHUNK: usize = 2048;
/** Bytes summed in float32 before the sums go to float64. */
const BLOCK: usize = 1024;
/** Runs up to this length are summed in float64: too short for samples to pay. */
const SHORT: usize = 32;
/** Below this mean square, squares come near the subnormal range of float32 and lose digits. */
const TINY: f64 = 1e-30;

/** float32 lanes, two and two, as doubles. */
@inline export function widen(v: v128): v128 {
  return f64x2.add(f64x2.promote_low_f32x4(v), f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)));
}

@inline export function sumLanes(v: v128): f64 {
  return f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1);
}

@inline export function tree8(a: v128, b: v128, c: v128, d: v128, e: v128, f: v128, g: v128, h: v128): v128 {
  return f32x4.add(
    f32x4.add(f32x4.add(a, b), f32x4.add(c, d)),
    f32x4.add(f32x4.add(e, f), f32x4.add(g, h)),
  );
}

/** Adds a group of `n` values to `m` (Chan). The mean is a weighted sum, so that an infinite mean stays infinite. */
@inline export function mergeMoments(m: Moments, n: f64, mean: f64, m2: f64): void {
  const count = m.count, total = count + n, delta = mean - m.mean;
  if (count == 0) { // two divisions less, which short rows feel
    m.count = n; m.mean = mean; m.m2 = m2;
    return;
  }
  m.m2 += m2 + delta * delta * (count * n / total);
  m.mean = (count * m.mean + n * mean) / total;
  m.count = total;
}

/** Adds `n` floats from byte address `p` to `m`. */
export function addRun(m: Moments, p: usize, n: usize): void {
  for (; n > CHUNK; n -= CHUNK, p += CHUNK << 2) addChunk(m, p, CHUNK);
  if (n > SHORT) addChunk(m, p, n);
  else if (n > 0) addWide(m, p, n);
}

/** Sum of the squares of `n` floats from byte address `p`. */
export function sumSquares(p: usize, n: usize): f64 {
  let sum: f64 = 0;
  for (; n > CHUNK; n -= CHUNK, p += CHUNK << 2) sum += squaresOfChunk(p, CHUNK);
  return sum + squaresOfChunk(p, n);
}

/** Mean of 8 vectors spread over the chunk: a tree sum of 32, so that equal values give that very value. n >= 32. */
@inline function sampleMean(p: usize, n: usize): f32 {
  const step = (n >> 5) << 4; // bytes: an eighth of the run, rounded down to whole vectors
  const far = p + (step << 2);
  const v = tree8(
    v128.load(p), v128.load(p + step), v128.load(p + 2 * step), v128.load(p + 3 * step),
    v128.load(far), v128.load(far + step), v128.load(far + 2 * step), v128.load(far + 3 * step),
  );
  return <f32>(sumLanes(widen(v)) / 32);
}

function addChunk(m: Moments, p: usize, n: usize): void {
  const count = <f64>n, whole = p + ((n & ~31) << 2), vectors = p + ((n & ~3) << 2), end = p + (n << 2);
  let shift = sampleMean(p, n);
  let s1: f64 = 0, s2: f64 = 0;
  for (let again = true; ; ) {
    const s = f32x4.splat(shift);
    let w1 = f64x2.splat(0), w2 = w1, a = f32x4.splat(0), b = a;
    let q = p;
    while (q < whole) {
      a = f32x4.splat(0); b = a;
      for (const stop = min(q + BLOCK, whole); q < stop; q += 128) {
        const d0 = f32x4.sub(v128.load(q), s), d1 = f32x4.sub(v128.load(q, 16), s);
        const d2 = f32x4.sub(v128.load(q, 32), s), d3 = f32x4.sub(v128.load(q, 48), s);
        const d4 = f32x4.sub(v128.load(q, 64), s), d5 = f32x4.sub(v128.load(q, 80), s);
        const d6 = f32x4.sub(v128.load(q, 96), s), d7 = f32x4.sub(v128.load(q, 112), s);
        a = f32x4.add(a, tree8(d0, d1, d2, d3, d4, d5, d6, d7));
        b = f32x4.add(b, tree8(
          f32x4.mul(d0, d0), f32x4.mul(d1, d1), f32x4.mul(d2, d2), f32x4.mul(d3, d3),
          f32x4.mul(d4, d4), f32x4.mul(d5, d5), f32x4.mul(d6, d6), f32x4.mul(d7, d7),
        ));
      }
      w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
    }
    a = f32x4.splat(0); b = a;
    for (; q < vectors; q += 16) {
      const d = f32x4.sub(v128.load(q), s);
      a = f32x4.add(a, d); b = f32x4.add(b, f32x4.mul(d, d));
    }
    s1 = sumLanes(f64x2.add(w1, widen(a))); s2 = sumLanes(f64x2.add(w2, widen(b)));
    for (; q < end; q += 4) {
      const d = <f64>(load<f32>(q) - shift);
      s1 += d; s2 += d * d;
    }
    if (!again || s1 * s1 * 2 <= s2 * count) break;
    again = false;
    shift = <f32>(<f64>shift + s1 / count);
  }
  if (s2 < Infinity && s2 > TINY * count) mergeMoments(m, count, <f64>shift + s1 / count, s2 - s1 * s1 / count);
  else addWide(m, p, n);
}

/** Two passes in float64. */
function addWide(m: Moments, p: usize, n: usize): void {
  const count = <f64>n, vectors = p + ((n & ~3) << 2), end = p + (n << 2);
  let w = f64x2.splat(0), q = p;
  for (; q < vectors; q += 16) w = f64x2.add(w, widen(v128.load(q)));
  let sum = sumLanes(w);
  for (; q < end; q += 4) sum += <f64>load<f32>(q);
  const mean = sum / count, c = f64x2.splat(mean);
  w = f64x2.splat(0);
  for (q = p; q < vectors; q += 16) {
    const v = v128.load(q);
    const d0 = f64x2.sub(f64x2.promote_low_f32x4(v), c);
    const d1 = f64x2.sub(f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)), c);
    w = f64x2.add(w, f64x2.add(f64x2.mul(d0, d0), f64x2.mul(d1, d1)));
  }
  let m2 = sumLanes(w);
  for (; q < end; q += 4) {
    const d = <f64>load<f32>(q) - mean;
    m2 += d * d;
  }
  mergeMoments(m, count, mean, m2);
}

function squaresOfChunk(p: usize, n: usize): f64 {
  const whole = p + ((n & ~31) << 2), end = p + (n << 2);
  let w = f64x2.splat(0), q = p;
  while (q < whole) {
    let a = f32x4.splat(0);
    for (const stop = min(q + BLOCK, whole); q < stop; q += 128) {
      const d0 = v128.load(q), d1 = v128.load(q, 16), d2 = v128.load(q, 32), d3 = v128.load(q, 48);
      const d4 = v128.load(q, 64), d5 = v128.load(q, 80), d6 = v128.load(q, 96), d7 = v128.load(q, 112);
      a = f32x4.add(a, tree8(
        f32x4.mul(d0, d0), f32x4.mul(d1, d1), f32x4.mul(d2, d2), f32x4.mul(d3, d3),
        f32x4.mul(d4, d4), f32x4.mul(d5, d5), f32x4.mul(d6, d6), f32x4.mul(d7, d7),
      ));
    }
    w = f64x2.add(w, widen(a));
  }
  let sum = sumLanes(w);
  if (!(sum < Infinity && (sum > TINY * <f64>n || whole == p))) {
    // A square left the range of float32, or some input is NaN or infinite.
    w = f64x2.splat(0);
    for (q = p; q < whole; q += 16) w = f64x2.add(w, squaresWide(v128.load(q)));
    sum = sumLanes(w);
  }
  w = f64x2.splat(0);
  for (const vectors = p + ((n & ~3) << 2); q < vectors; q += 16) w = f64x2.add(w, squaresWide(v128.load(q)));
  sum += sumLanes(w);
  for (; q < end; q += 4) {
    const v = <f64>load<f32>(q);
    sum += v * v;
  }
  return sum;
}

/** Squares of float32 lanes in float64, two and two. */
@inline function squaresWide(v: v128): v128 {
  const lo = f64x2.promote_low_f32x4(v), hi = f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0));
  return f64x2.add(f64x2.mul(lo, lo), f64x2.mul(hi, hi));
}
