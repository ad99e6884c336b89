import { loadLanes, storeLanes, unitByte } from "./lib_lanes";
import { splat } from "./lib_math";
import { sumSquares } from "./lib_moments";
import { firstUnit, Segment, segmentOf } from "./lib_segments";

// One pass over parameter, gradient and state of all tensors of a table (lib_segments.ts). A unit is `unit` elements of
// one tensor; units are counted through all of them.
//
// Which arrays there are is a constant of an inlined loop, and lesser options are masks. An option tested inside the
// loop would be dear: TurboFan moves the conversion of an argument to the place of its use, and out of a branch in a
// loop it does not move it back, so that it converts anew in each turn, at several times the cost of the arithmetic.
// For the same reason addresses are stepped, not computed from a base.

/** All bits where the condition holds. */
// @ts-ignore: decorator
@inline function mask(condition: bool): v128 { return i32x4.splat(condition ? -1 : 0); }

/** The way down with weight decay; masked, so that an infinite p times no decay stays out. */
// @ts-ignore: decorator
@inline function decayed(g: v128, p: v128, sign: v128, decay: v128, decays: v128): v128 {
  return f32x4.add(f32x4.mul(g, sign), v128.and(f32x4.mul(p, decay), decays));
}

@unmanaged class Sgd {
  table: f64; unit: f64; moving: f64;
  lr: f64; momentum: f64; keep: f64; weightDecay: f64; sign: f64; nesterov: f64; first: f64;
}

/** Stochastic gradient descent. Rows: parameter, gradient, velocity if `moving`; `keep` is 1 - dampening. */
export function sgd(args: usize, lo: i32, hi: i32, worker: i32): void {
  if (changetype<Sgd>(args).moving != 0) sgdLoop(args, lo, hi, true);
  else sgdLoop(args, lo, hi, false);
}

// @ts-ignore: decorator
@inline function sgdLoop(args: usize, lo: i32, hi: i32, moving: bool): void {
  const a = changetype<Sgd>(args);
  const lr = splat(<f32>a.lr), momentum = splat(<f32>a.momentum), keep = splat(<f32>a.keep);
  const sign = splat(<f32>a.sign), decay = splat(<f32>a.weightDecay), decays = mask(a.weightDecay != 0);
  const nesterov = mask(a.nesterov != 0), first = mask(a.first != 0);
  const table = <usize>a.table;
  for (let row = segmentOf(table, lo), u = lo; u < hi; row += offsetof<Segment>()) {
    const s = changetype<Segment>(row), from = firstUnit(table, row), stop = min(hi, <i32>s.end);
    const begin = unitByte(u - from, a.unit, s.length), bytes = unitByte(stop - from, a.unit, s.length) - begin;
    let pp = <usize>s.a + begin, gp = <usize>s.b + begin, vp = <usize>s.c + begin;
    const end = pp + bytes;
    for (; pp < end; pp += 16) {
      const k = min<usize>(4, (end - pp) >> 2);
      const p = loadLanes(pp, k);
      let g = decayed(loadLanes(gp, k), p, sign, decay, decays);
      if (moving) {
        const later = f32x4.add(f32x4.mul(loadLanes(vp, k), momentum), f32x4.mul(g, keep));
        const v = v128.bitselect(g, later, first);
        storeLanes(vp, k, v);
        g = v128.bitselect(f32x4.add(g, f32x4.mul(v, momentum)), v, nesterov);
      }
      storeLanes(pp, k, f32x4.sub(p, f32x4.mul(g, lr)));
      gp += 16;
      vp += 16;
    }
    u = stop;
  }
}

@unmanaged class Adam {
  table: f64; unit: f64;
  step: f64; beta2: f64; new1: f64; new2: f64; eps: f64; weightDecay: f64; shrink: f64; rootScale: f64; sign: f64;
}

/**
 * Adam. Rows: parameter, gradient, m, v. new = 1 - beta, step = lr / correction1, rootScale = 1 / sqrt(correction2),
 * shrink = 1 - lr * decoupled decay.
 */
export function adam(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Adam>(args);
  const step = splat(<f32>a.step), beta2 = splat(<f32>a.beta2), new1 = splat(<f32>a.new1), new2 = splat(<f32>a.new2);
  const eps = splat(<f32>a.eps), shrink = splat(<f32>a.shrink), rootScale = splat(<f32>a.rootScale);
  const sign = splat(<f32>a.sign), decay = splat(<f32>a.weightDecay), decays = mask(a.weightDecay != 0);
  const table = <usize>a.table;
  for (let row = segmentOf(table, lo), u = lo; u < hi; row += offsetof<Segment>()) {
    const s = changetype<Segment>(row), from = firstUnit(table, row), stop = min(hi, <i32>s.end);
    const begin = unitByte(u - from, a.unit, s.length), bytes = unitByte(stop - from, a.unit, s.length) - begin;
    let pp = <usize>s.a + begin, gp = <usize>s.b + begin, mp = <usize>s.c + begin, vp = <usize>s.d + begin;
    const end = pp + bytes;
    for (; pp < end; pp += 16) {
      const k = min<usize>(4, (end - pp) >> 2);
      const p = loadLanes(pp, k), m = loadLanes(mp, k);
      const g = decayed(loadLanes(gp, k), p, sign, decay, decays);
      const m1 = f32x4.add(m, f32x4.mul(f32x4.sub(g, m), new1));
      const v1 = f32x4.add(f32x4.mul(loadLanes(vp, k), beta2), f32x4.mul(f32x4.mul(g, g), new2));
      storeLanes(mp, k, m1);
      storeLanes(vp, k, v1);
      const root = f32x4.add(f32x4.mul(f32x4.sqrt(v1), rootScale), eps);
      storeLanes(pp, k, f32x4.sub(f32x4.mul(p, shrink), f32x4.div(f32x4.mul(m1, step), root)));
      gp += 16;
      mp += 16;
      vp += 16;
    }
    u = stop;
  }
}

@unmanaged class Rmsprop {
  table: f64; unit: f64; centred: f64; moving: f64;
  lr: f64; alpha: f64; fresh: f64; eps: f64; weightDecay: f64; momentum: f64; sign: f64;
}

/** RMSprop. Rows: parameter, gradient, mean square, average if `centred`, velocity if `moving`; fresh = 1 - alpha. */
export function rmsprop(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Rmsprop>(args);
  if (a.centred != 0) {
    if (a.moving != 0) rmspropLoop(args, lo, hi, true, true);
    else rmspropLoop(args, lo, hi, true, false);
  } else {
    if (a.moving != 0) rmspropLoop(args, lo, hi, false, true);
    else rmspropLoop(args, lo, hi, false, false);
  }
}

// @ts-ignore: decorator
@inline function rmspropLoop(args: usize, lo: i32, hi: i32, centred: bool, moving: bool): void {
  const a = changetype<Rmsprop>(args);
  const lr = splat(<f32>a.lr), alpha = splat(<f32>a.alpha), fresh = splat(<f32>a.fresh), eps = splat(<f32>a.eps);
  const sign = splat(<f32>a.sign), decay = splat(<f32>a.weightDecay), decays = mask(a.weightDecay != 0);
  const momentum = splat(<f32>a.momentum);
  const table = <usize>a.table;
  for (let row = segmentOf(table, lo), u = lo; u < hi; row += offsetof<Segment>()) {
    const s = changetype<Segment>(row), from = firstUnit(table, row), stop = min(hi, <i32>s.end);
    const begin = unitByte(u - from, a.unit, s.length), bytes = unitByte(stop - from, a.unit, s.length) - begin;
    let pp = <usize>s.a + begin, gp = <usize>s.b + begin, sp = <usize>s.c + begin;
    let ap = <usize>s.d + begin, vp = <usize>s.e + begin;
    const end = pp + bytes;
    for (; pp < end; pp += 16) {
      const k = min<usize>(4, (end - pp) >> 2);
      const p = loadLanes(pp, k);
      const g = decayed(loadLanes(gp, k), p, sign, decay, decays);
      const square = f32x4.add(f32x4.mul(loadLanes(sp, k), alpha), f32x4.mul(f32x4.mul(g, g), fresh));
      storeLanes(sp, k, square);
      let spread = square;
      if (centred) {
        const old = loadLanes(ap, k);
        const average = f32x4.add(old, f32x4.mul(f32x4.sub(g, old), fresh));
        storeLanes(ap, k, average);
        // Rounding can leave the variance of a steady gradient just below 0.
        spread = f32x4.pmax(f32x4.sub(square, f32x4.mul(average, average)), splat(0));
      }
      let update = f32x4.div(g, f32x4.add(f32x4.sqrt(spread), eps));
      if (moving) {
        update = f32x4.add(f32x4.mul(loadLanes(vp, k), momentum), update);
        storeLanes(vp, k, update);
      }
      storeLanes(pp, k, f32x4.sub(p, f32x4.mul(update, lr)));
      gp += 16;
      sp += 16;
      ap += 16;
      vp += 16;
    }
    u = stop;
  }
}

@unmanaged class Squares { table: f64; unit: f64; sums: f64; }

/** sums[u], float64 = the squares of unit u of the rows' first place. */
export function sum_squares_of(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Squares>(args);
  const table = <usize>a.table, sums = <usize>a.sums, unit = <usize>a.unit;
  for (let row = segmentOf(table, lo), u = lo; u < hi; row += offsetof<Segment>()) {
    const s = changetype<Segment>(row), from = firstUnit(table, row), length = <usize>s.length;
    for (const stop = min(hi, <i32>s.end); u < stop; u++) {
      const begin = <usize>(u - from) * unit;
      store<f64>(sums + (<usize>u << 3), sumSquares(<usize>s.a + (begin << 2), min(unit, length - begin)));
    }
  }
}

@unmanaged class Scale { table: f64; unit: f64; factor: f64; }

/** Each element of the rows' first place times `factor`. */
export function scale_of(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Scale>(args);
  const table = <usize>a.table, factor = splat(<f32>a.factor);
  for (let row = segmentOf(table, lo), u = lo; u < hi; row += offsetof<Segment>()) {
    const s = changetype<Segment>(row), from = firstUnit(table, row), stop = min(hi, <i32>s.end);
    let p = <usize>s.a + unitByte(u - from, a.unit, s.length);
    const end = <usize>s.a + unitByte(stop - from, a.unit, s.length);
    for (; p < end; p += 16) {
      const k = min<usize>(4, (end - p) >> 2);
      storeLanes(p, k, f32x4.mul(loadLanes(p, k), factor));
    }
    u = stop;
  }
}
