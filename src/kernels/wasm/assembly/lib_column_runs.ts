// Runs: contiguous floats of one channel.
import { RELU, activate, activateGrad, rectify, rectifyGrad } from "./lib_activation";
import { gradOf } from "./lib_column_tiles";
import { sumLanes, tree8, widen } from "./lib_moments";

/** y = (x - centre) * scale + offset over `n` floats. */
export function runApply(x: usize, y: usize, n: usize, centre: f32, scale: f32, offset: f32): void {
  applyRun(x, y, n, centre, scale, offset, false);
}

/** The same, and what is negative becomes 0. */
function runRelu(x: usize, y: usize, n: usize, centre: f32, scale: f32, offset: f32): void {
  applyRun(x, y, n, centre, scale, offset, true);
}

@inline function finish(v: v128, relu: bool): v128 { return relu ? rectify(v) : v; }

@inline function applyRun(x: usize, y: usize, n: usize, centre: f32, scale: f32, offset: f32, relu: bool): void {
  const c = f32x4.splat(centre), k = f32x4.splat(scale), o = f32x4.splat(offset);
  const end = x + (n << 2), whole = x + ((n & ~15) << 2), vectors = x + ((n & ~3) << 2);
  for (; x < whole; x += 64, y += 64) {
    const v0 = f32x4.mul(f32x4.sub(v128.load(x), c), k), v1 = f32x4.mul(f32x4.sub(v128.load(x, 16), c), k);
    const v2 = f32x4.mul(f32x4.sub(v128.load(x, 32), c), k), v3 = f32x4.mul(f32x4.sub(v128.load(x, 48), c), k);
    v128.store(y, finish(f32x4.add(v0, o), relu));
    v128.store(y, finish(f32x4.add(v1, o), relu), 16);
    v128.store(y, finish(f32x4.add(v2, o), relu), 32);
    v128.store(y, finish(f32x4.add(v3, o), relu), 48);
  }
  for (; x < vectors; x += 16, y += 16) {
    v128.store(y, finish(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x), c), k), o), relu));
  }
  for (; x < end; x += 4, y += 4) {
    const v = (load<f32>(x) - centre) * scale + offset;
    store<f32>(y, relu && v < 0 ? 0 : v);
  }
}

/** dz = dy where (x - centre) * scale + offset > 0, else 0. */
function runReluDz(x: usize, dy: usize, dz: usize, n: usize, centre: f32, scale: f32, offset: f32): void {
  const c = f32x4.splat(centre), k = f32x4.splat(scale), o = f32x4.splat(offset);
  const end = x + (n << 2), whole = x + ((n & ~7) << 2), vectors = x + ((n & ~3) << 2);
  for (; x < whole; x += 32, dy += 32, dz += 32) {
    const v0 = f32x4.mul(f32x4.sub(v128.load(x), c), k), v1 = f32x4.mul(f32x4.sub(v128.load(x, 16), c), k);
    v128.store(dz, rectifyGrad(f32x4.add(v0, o), v128.load(dy)));
    v128.store(dz, rectifyGrad(f32x4.add(v1, o), v128.load(dy, 16)), 16);
  }
  for (; x < vectors; x += 16, dy += 16, dz += 16) {
    v128.store(dz, rectifyGrad(f32x4.add(f32x4.mul(f32x4.sub(v128.load(x), c), k), o), v128.load(dy)));
  }
  for (; x < end; x += 4, dy += 4, dz += 4) {
    store<f32>(dz, (load<f32>(x) - centre) * scale + offset <= 0 ? 0 : load<f32>(dy));
  }
}

/** Floats that go through an activation while they lie in the first-level cache; whole blocks of runSums. */
const PIECE: usize = 2048;

/** y = f((x - centre) * scale + offset) over `n` floats. */
export function runActivate(
  x: usize, y: usize, n: usize, centre: f32, scale: f32, offset: f32, op: i32, alpha: f32,
): void {
  if (op == RELU) {
    runRelu(x, y, n, centre, scale, offset);
    return;
  }
  for (const end = x + (n << 2); x < end; x += PIECE << 2, y += PIECE << 2) {
    const m = min(PIECE, (end - x) >> 2);
    runApply(x, y, m, centre, scale, offset);
    activate(op, y, y, m << 2, alpha);
  }
}

@unmanaged export class Sums { dy: f64; dyX: f64; }

/** Sums about a shift: of what is left, and of its squares. */
@unmanaged export class Deviations { s1: f64; s2: f64; shift: f64; }

/** Adds the sums of dy and dy * (x - centre) over `n` floats; float32 over eight vectors only, as tileSums. */
export function runSums(x: usize, dy: usize, n: usize, centre: f32, out: Sums): void {
  const c = f32x4.splat(centre), end = x + (n << 2), whole = x + ((n & ~31) << 2), vectors = x + ((n & ~3) << 2);
  let w1 = f64x2.splat(0), w2 = w1;
  for (; x < whole; x += 128, dy += 128) {
    const g0 = v128.load(dy), g1 = v128.load(dy, 16), g2 = v128.load(dy, 32), g3 = v128.load(dy, 48);
    const g4 = v128.load(dy, 64), g5 = v128.load(dy, 80), g6 = v128.load(dy, 96), g7 = v128.load(dy, 112);
    w1 = f64x2.add(w1, widen(tree8(g0, g1, g2, g3, g4, g5, g6, g7)));
    w2 = f64x2.add(w2, widen(tree8(
      f32x4.mul(g0, f32x4.sub(v128.load(x), c)), f32x4.mul(g1, f32x4.sub(v128.load(x, 16), c)),
      f32x4.mul(g2, f32x4.sub(v128.load(x, 32), c)), f32x4.mul(g3, f32x4.sub(v128.load(x, 48), c)),
      f32x4.mul(g4, f32x4.sub(v128.load(x, 64), c)), f32x4.mul(g5, f32x4.sub(v128.load(x, 80), c)),
      f32x4.mul(g6, f32x4.sub(v128.load(x, 96), c)), f32x4.mul(g7, f32x4.sub(v128.load(x, 112), c)),
    )));
  }
  for (; x < vectors; x += 16, dy += 16) {
    const g = v128.load(dy);
    w1 = f64x2.add(w1, widen(g));
    w2 = f64x2.add(w2, widen(f32x4.mul(g, f32x4.sub(v128.load(x), c))));
  }
  let s1 = sumLanes(w1), s2 = sumLanes(w2);
  for (; x < end; x += 4, dy += 4) {
    const g = <f64>load<f32>(dy);
    s1 += g; s2 += g * <f64>(load<f32>(x) - centre);
  }
  out.dy += s1;
  out.dyX += s2;
}

/**
 * Adds the sums of d and d^2, d = x - shift, over `n` floats; float32 over 256 floats only, eight additions in a row to
 * each lane after a tree over 8 vectors.
 */
export function runDeviations(x: usize, n: usize, shift: f32, out: Deviations): void {
  const s = f32x4.splat(shift), end = x + (n << 2), whole = x + ((n & ~31) << 2), vectors = x + ((n & ~3) << 2);
  let w1 = f64x2.splat(0), w2 = w1, a = f32x4.splat(0), b = a;
  while (x < whole) {
    a = f32x4.splat(0); b = a;
    for (const stop = min(x + 1024, whole); x < stop; x += 128) {
      const d0 = f32x4.sub(v128.load(x), s), d1 = f32x4.sub(v128.load(x, 16), s);
      const d2 = f32x4.sub(v128.load(x, 32), s), d3 = f32x4.sub(v128.load(x, 48), s);
      const d4 = f32x4.sub(v128.load(x, 64), s), d5 = f32x4.sub(v128.load(x, 80), s);
      const d6 = f32x4.sub(v128.load(x, 96), s), d7 = f32x4.sub(v128.load(x, 112), s);
      a = f32x4.add(a, tree8(d0, d1, d2, d3, d4, d5, d6, d7));
      b = f32x4.add(b, tree8(
        f32x4.mul(d0, d0), f32x4.mul(d1, d1), f32x4.mul(d2, d2), f32x4.mul(d3, d3),
        f32x4.mul(d4, d4), f32x4.mul(d5, d5), f32x4.mul(d6, d6), f32x4.mul(d7, d7),
      ));
    }
    w1 = f64x2.add(w1, widen(a)); w2 = f64x2.add(w2, widen(b));
  }
  a = f32x4.splat(0); b = a;
  for (; x < vectors; x += 16) {
    const d = f32x4.sub(v128.load(x), s);
    a = f32x4.add(a, d); b = f32x4.add(b, f32x4.mul(d, d));
  }
  let s1 = sumLanes(f64x2.add(w1, widen(a))), s2 = sumLanes(f64x2.add(w2, widen(b)));
  for (; x < end; x += 4) {
    const d = <f64>(load<f32>(x) - shift);
    s1 += d; s2 += d * d;
  }
  out.s1 += s1;
  out.s2 += s2;
}

/** The mean of 32 of the values in `rows` runs of `n` floats, n >= 4. */
export function sampleRuns(x: usize, rows: usize, stride: usize, n: usize): f32 {
  let sum = f32x4.splat(0);
  for (let i: usize = 0; i < 8; i++) {
    sum = f32x4.add(sum, v128.load(x + (i * rows >> 3) * stride + ((i * (n - 4) / 7) << 2)));
  }
  return <f32>(sumLanes(widen(sum)) / 32);
}

/** dz = dy * f'((x - centre) * scale + offset) over `n` floats, and the sums with dz in the place of dy. */
export function runSumsThrough(
  x: usize, dy: usize, dz: usize, n: usize, centre: f32, scale: f32, offset: f32, op: i32, alpha: f32, out: Sums,
): void {
  for (const end = x + (n << 2); x < end; x += PIECE << 2, dy += PIECE << 2, dz += PIECE << 2) {
    const m = min(PIECE, (end - x) >> 2);
    if (op == RELU) {
      runReluDz(x, dy, dz, m, centre, scale, offset);
    } else {
      runApply(x, dz, m, centre, scale, offset);
      activateGrad(op, dz, dy, dz, m << 2, alpha);
    }
    runSums(x, dz, m, centre, out);
  }
}

/** dx = (dy - dyCentre) * scale + offset - (x - centre) * slope over `n` floats. */
export function runGrad(
  x: usize, dy: usize, dx: usize, n: usize, centre: f32, scale: f32, offset: f32, slope: f32, dyCentre: f32,
): void {
  const c = f32x4.splat(centre), k = f32x4.splat(scale), o = f32x4.splat(offset), s = f32x4.splat(slope),
    e = f32x4.splat(dyCentre);
  const end = x + (n << 2), whole = x + ((n & ~15) << 2), vectors = x + ((n & ~3) << 2);
  for (; x < whole; x += 64, dy += 64, dx += 64) {
    v128.store(dx, gradOf(v128.load(x), v128.load(dy), c, k, o, s, e));
    v128.store(dx, gradOf(v128.load(x, 16), v128.load(dy, 16), c, k, o, s, e), 16);
    v128.store(dx, gradOf(v128.load(x, 32), v128.load(dy, 32), c, k, o, s, e), 32);
    v128.store(dx, gradOf(v128.load(x, 48), v128.load(dy, 48), c, k, o, s, e), 48);
  }
  for (; x < vectors; x += 16, dy += 16, dx += 16) v128.store(dx, gradOf(v128.load(x), v128.load(dy), c, k, o, s, e));
  for (; x < end; x += 4, dy += 4, dx += 4) {
    store<f32>(dx, (load<f32>(dy) - dyCentre) * scale + offset - (load<f32>(x) - centre) * slope);
  }
}
