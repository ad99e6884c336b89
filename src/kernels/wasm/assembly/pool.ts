// Pooling over [planes, depth, height, width]. A unit of a forward kernel is one row of outputs; of a gradient, a plane.
// Outputs whose windows lie within the input along w are computed four at a time, the others one by one.

import { sumRun } from "./lib_runs";

/** d, h, w: input, output and kernel lengths (i, o, k), stride, padding and dilation (s, p, e). */
@unmanaged class Pool {
  x: f64; y: f64; index: f64; countPad: f64;
  id: f64; ih: f64; iw: f64; od: f64; oh: f64; ow: f64; kd: f64; kh: f64; kw: f64;
  sd: f64; sh: f64; sw: f64; pd: f64; ph: f64; pw: f64; ed: f64; eh: f64; ew: f64;
}

/** ceil(a / b) for b > 0, but 0 for negative a. Divisions are slow, and b is mostly 1. */
// @ts-ignore: decorator
@inline function ceilDiv(a: i32, b: i32): i32 { return a <= 0 ? 0 : b == 1 ? a : (a + b - 1) / b; }

/** First tap that is not left of the input, for a window that starts at `first`. */
// @ts-ignore: decorator
@inline function tapsFrom(first: i32, step: i32): i32 { return ceilDiv(-first, step); }

/** One past the last tap that is left of `end`. */
// @ts-ignore: decorator
@inline function tapsTo(first: i32, step: i32, taps: i32, end: i32): i32 { return min(taps, ceilDiv(end - first, step)); }

/** First output whose window starts within the input. */
// @ts-ignore: decorator
@inline function insideFrom(a: Pool): i32 { return min(<i32>a.ow, ceilDiv(<i32>a.pw, <i32>a.sw)); }

/** One past the last output whose window ends within the input; at least insideFrom. */
// @ts-ignore: decorator
@inline function insideTo(a: Pool, from: i32): i32 {
  const last = <i32>a.iw - 1 + <i32>a.pw - (<i32>a.kw - 1) * <i32>a.ew;
  return max(from, last < 0 ? 0 : min(<i32>a.ow, last / <i32>a.sw + 1));
}

/** Lanes p, p + s, p + 2 s, p + 3 s (s in elements), touching nothing beyond the last. `known` is s, or 0. */
// @ts-ignore: decorator
@inline function loadEvery(known: i32, p: usize, s: i32): v128 {
  if (known == 1) return v128.load(p);
  if (known == 2) return v128.shuffle<f32>(v128.load(p), v128.load(p, 12), 0, 2, 5, 7);
  const step = <usize>s << 2;
  let v = v128.load_zero<u32>(p);
  v = v128.load_lane<u32>(p + step, v, 1);
  v = v128.load_lane<u32>(p + 2 * step, v, 2);
  return v128.load_lane<u32>(p + 3 * step, v, 3);
}

/** One output of maxPool; the window's taps along d and h are given, those along w found here. */
// @ts-ignore: decorator
@inline function maxAt(a: Pool, plane: usize, d: i32, d0: i32, d1: i32, h: i32, h0: i32, h1: i32, o: i32, place: usize): void {
  const iw = <i32>a.iw, ew = <i32>a.ew, w = o * <i32>a.sw - <i32>a.pw;
  const w0 = tapsFrom(w, ew), w1 = tapsTo(w, ew, <i32>a.kw, iw);
  let best: f32 = -Infinity, at = -1;
  for (let i = d0; i < d1; i++) {
    for (let j = h0; j < h1; j++) {
      const row = ((d + i * <i32>a.ed) * <i32>a.ih + h + j * <i32>a.eh) * iw;
      for (let k = w0; k < w1; k++) {
        const where = row + w + k * ew, v = load<f32>(plane + (<usize>where << 2));
        if (at < 0 || v > best || v != v) { best = v; at = where; }
      }
    }
  }
  store<f32>(<usize>a.y + place, best);
  store<i32>(<usize>a.index + place, at);
}

/** The larger of v (or NaN: the last NaN wins, as in torch) and the best so far. */
// @ts-ignore: decorator
@inline function beats(v: v128, best: v128): v128 { return v128.or(f32x4.gt(v, best), f32x4.ne(v, v)); }

/**
 * Outputs [from, to) of a row of maxPool, at least four, all within the input along w. `corner` is the place of output
 * `from`'s first tap in the plane at `plane`; taps are nd x nh x kw of them, `deep`, `down` and `ew` elements apart.
 */
// @ts-ignore: decorator
@inline function maxRow(
  known: i32, plane: usize, corner: i32, s: i32, nd: i32, deep: i32, nh: i32, down: i32, kw: i32, ew: i32,
  y: usize, index: usize, n: i32,
): void {
  const lanes = i32x4.mul(i32x4(0, 1, 2, 3), i32x4.splat(s)), right = i32x4.splat(ew);
  for (let o = 0; o < n; o += 4) {
    o = min(o, n - 4); // the last four may repeat what is done
    const first = corner + o * s;
    let best = loadEvery(known, plane + (<usize>first << 2), s), at = i32x4.add(lanes, i32x4.splat(first));
    for (let i = 0, di = first; i < nd; i++, di += deep) {
      for (let j = 0, dj = di; j < nh; j++, dj += down) {
        let where = i32x4.add(lanes, i32x4.splat(dj));
        let p = plane + (<usize>dj << 2);
        for (const end = p + (<usize>(kw * ew) << 2); p < end; p += <usize>ew << 2) {
          const v = loadEvery(known, p, s), b = beats(v, best);
          best = v128.bitselect(v, best, b);
          at = v128.bitselect(where, at, b);
          where = i32x4.add(where, right);
        }
      }
    }
    v128.store(y + (<usize>o << 2), best);
    v128.store(index + (<usize>o << 2), at);
  }
}

/** The same for windows of 2 by 2 with stride 2, the usual ones: no loops, and each row of x is loaded once. */
function maxRow2x2(plane: usize, corner: i32, iw: i32, y: usize, index: usize, n: i32): void {
  const row = <usize>iw << 2, lanes = i32x4(0, 2, 4, 6), right = i32x4.splat(1), below = i32x4.splat(iw);
  for (let o = 0; o < n; o += 4) {
    o = min(o, n - 4);
    const p = plane + (<usize>(corner + 2 * o) << 2);
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p + row), d = v128.load(p + row, 16);
    let best = v128.shuffle<f32>(a, b, 0, 2, 4, 6), v = v128.shuffle<f32>(a, b, 1, 3, 5, 7);
    let at = i32x4.add(lanes, i32x4.splat(corner + 2 * o)), where = i32x4.add(at, right), m = beats(v, best);
    const under = i32x4.add(at, below);
    best = v128.bitselect(v, best, m);
    at = v128.bitselect(where, at, m);
    v = v128.shuffle<f32>(c, d, 0, 2, 4, 6);
    m = beats(v, best);
    best = v128.bitselect(v, best, m);
    at = v128.bitselect(under, at, m);
    v = v128.shuffle<f32>(c, d, 1, 3, 5, 7);
    where = i32x4.add(under, right);
    m = beats(v, best);
    v128.store(y + (<usize>o << 2), v128.bitselect(v, best, m));
    v128.store(index + (<usize>o << 2), v128.bitselect(where, at, m));
  }
}

/** Rows [lo, hi) of outputs of 2 by 2 windows that tile planes: finding each row's taps would take longer than its maxima. */
function quarters(a: Pool, lo: i32, hi: i32): void {
  const ih = <i32>a.ih, iw = <i32>a.iw, oh = <i32>a.oh, ow = <i32>a.ow;
  const row = <usize>ow << 2, size = <usize>(ih * iw) << 2;
  let h = lo % oh, plane = <usize>a.x + <usize>(lo / oh) * size, place = <usize>lo * row;
  const y = <usize>a.y, index = <usize>a.index;
  for (let u = lo; u < hi; u++, place += row) {
    maxRow2x2(plane, 2 * h * iw, iw, y + place, index + place, ow);
    if (++h == oh) { h = 0; plane += size; }
  }
}

export function max_pool(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kw = <i32>a.kw, sw = <i32>a.sw;
  const from = insideFrom(a), to = insideTo(a, from), n = to - from;
  const pairs = kw == 2 && sw == 2 && ew == 1 && eh == 1;
  const plain = pairs && <i32>a.kh == 2 && <i32>a.sh == 2 && <i32>a.kd == 1 && id == 1 && od == 1 && <i32>a.ph == 0;
  if (plain && <i32>a.pw == 0 && ow >= 4 && 2 * ow <= iw && 2 * oh <= ih) return quarters(a, lo, hi);
  for (let u = lo; u < hi; u++) {
    const h = u % oh * <i32>a.sh - <i32>a.ph, d = u / oh % od * <i32>a.sd - <i32>a.pd;
    const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, <i32>a.kd, id);
    const h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, <i32>a.kh, ih);
    const plane = <usize>a.x + ((<usize>(u / oh / od) * <usize>(id * ih * iw)) << 2);
    const place = (<usize>u * <usize>ow) << 2, wide = n >= 4 && d0 < d1 && h0 < h1;
    for (let o = 0; o < ow; o++) {
      if (wide && o == from) o = to;
      if (o < ow) maxAt(a, plane, d, d0, d1, h, h0, h1, o, place + (<usize>o << 2));
    }
    if (!wide) continue;
    const y = <usize>a.y + place + (<usize>from << 2), index = <usize>a.index + place + (<usize>from << 2);
    const corner = ((d + d0 * ed) * ih + h + h0 * eh) * iw + from * sw - <i32>a.pw;
    const nd = d1 - d0, nh = h1 - h0, deep = ed * ih * iw, down = eh * iw;
    if (pairs && nd == 1 && nh == 2) maxRow2x2(plane, corner, iw, y, index, n);
    else if (sw == 1) maxRow(1, plane, corner, 1, nd, deep, nh, down, kw, ew, y, index, n);
    else if (sw == 2) maxRow(2, plane, corner, 2, nd, deep, nh, down, kw, ew, y, index, n);
    else maxRow(0, plane, corner, sw, nd, deep, nh, down, kw, ew, y, index, n);
  }
}

@unmanaged class MaxPoolGrad { dy: f64; index: f64; dx: f64; input: f64; output: f64; }

export function max_pool_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<MaxPoolGrad>(args);
  const input = <usize>a.input, output = <usize>a.output;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const dx = <usize>a.dx + ((u * input) << 2);
    memory.fill(dx, 0, input << 2);
    let dy = <usize>a.dy + ((u * output) << 2), index = <usize>a.index + ((u * output) << 2);
    for (const end = dy + (output << 2); dy < end; dy += 4, index += 4) {
      const at = load<i32>(index);
      if (at < 0) continue; // a window that holds padding alone
      const p = dx + (<usize>at << 2);
      store<f32>(p, load<f32>(p) + load<f32>(dy));
    }
  }
}

/** Taps that an average divides by along one axis: those within the padding count if `pad` is not 0. */
// @ts-ignore: decorator
@inline function counted(first: i32, step: i32, taps: i32, n: i32, padding: i32, pad: bool): i32 {
  return pad ? tapsTo(first, step, taps, n + padding) : tapsTo(first, step, taps, n) - tapsFrom(first, step);
}

/** Outputs of a row of avgPool, as maxRow; n is a multiple of 4. Sums are in float64, as windows may be large. */
// @ts-ignore: decorator
@inline function avgRow(
  known: i32, corner: usize, s: i32, nd: i32, deep: usize, nh: i32, down: usize, kw: i32, ew: usize, count: i32,
  y: usize, n: i32,
): void {
  const scale = f64x2.splat(1 / <f64>count);
  for (let o = 0; o < n; o += 4, y += 16, corner += <usize>s << 4) {
    let low = f64x2.splat(0), high = low;
    for (let i = 0, pi = corner; i < nd; i++, pi += deep) {
      for (let j = 0, pj = pi; j < nh; j++, pj += down) {
        for (let k = 0, p = pj; k < kw; k++, p += ew) {
          const v = loadEvery(known, p, s);
          low = f64x2.add(low, f64x2.promote_low_f32x4(v));
          high = f64x2.add(high, f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)));
        }
      }
    }
    low = f32x4.demote_f64x2_zero(f64x2.mul(low, scale));
    high = f32x4.demote_f64x2_zero(f64x2.mul(high, scale));
    v128.store(y, i64x2.shuffle(low, high, 0, 2));
  }
}

export function avg_pool(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kd = <i32>a.kd, kh = <i32>a.kh, kw = <i32>a.kw, sw = <i32>a.sw;
  const pd = <i32>a.pd, ph = <i32>a.ph, pw = <i32>a.pw, pad = a.countPad != 0;
  const from = insideFrom(a), n = (insideTo(a, from) - from) & ~3;
  const deep = <usize>(ed * ih * iw) << 2, down = <usize>(eh * iw) << 2, right = <usize>ew << 2;
  for (let u = lo; u < hi; u++) {
    const h = u % oh * <i32>a.sh - ph, d = u / oh % od * <i32>a.sd - pd;
    const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, kd, id), h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, kh, ih);
    const rows = counted(d, ed, kd, id, pd, pad) * counted(h, eh, kh, ih, ph, pad), nd = d1 - d0, nh = h1 - h0;
    // Row of the first tap; its first element.
    const x = <usize>a.x + (<usize>((u / oh / od * id + d + d0 * ed) * ih + h + h0 * eh) * <usize>iw << 2);
    const y = <usize>a.y + ((<usize>u * <usize>ow) << 2);
    for (let o = 0; o < ow; o++) {
      if (n > 0 && o == from) o += n;
      if (o >= ow) break;
      const w = o * sw - pw, w0 = tapsFrom(w, ew), w1 = tapsTo(w, ew, kw, iw);
      let sum: f64 = 0;
      for (let i = 0, pi = x + (<usize>(w + w0 * ew) << 2); i < nd; i++, pi += deep) {
        for (let j = 0, pj = pi; j < nh; j++, pj += down) {
          for (let k = w0, p = pj; k < w1; k++, p += right) sum += <f64>load<f32>(p);
        }
      }
      store<f32>(y + (<usize>o << 2), <f32>(sum / <f64>(rows * counted(w, ew, kw, iw, pw, pad))));
    }
    const corner = x + (<usize>(from * sw - pw) << 2), to = y + (<usize>from << 2), count = rows * kw;
    if (sw == 1) avgRow(1, corner, 1, nd, deep, nh, down, kw, right, count, to, n);
    else if (sw == 2) avgRow(2, corner, 2, nd, deep, nh, down, kw, right, count, to, n);
    else avgRow(0, corner, sw, nd, deep, nh, down, kw, right, count, to, n);
  }
}

/** Adds a row of dy, times `scale`, to the row of dx at q, for windows that lie within it: outputs [from, to). */
// @ts-ignore: decorator
@inline function spreadRow(dy: usize, q: usize, from: i32, to: i32, s: i32, kw: i32, right: usize, scale: f32): void {
  const wide = f32x4.splat(scale);
  let o = from;
  if (s == 2 && kw == 2 && right == 4) {
    for (; o + 4 <= to; o += 4, q += 32) {
      const g = f32x4.mul(v128.load(dy + (<usize>o << 2)), wide);
      v128.store(q, f32x4.add(v128.load(q), v128.shuffle<f32>(g, g, 0, 0, 1, 1)));
      v128.store(q, f32x4.add(v128.load(q, 16), v128.shuffle<f32>(g, g, 2, 2, 3, 3)), 16);
    }
  } else if (s == 1) {
    for (; o + 4 <= to; o += 4, q += 16) {
      const g = f32x4.mul(v128.load(dy + (<usize>o << 2)), wide);
      for (let k = 0, p = q; k < kw; k++, p += right) v128.store(p, f32x4.add(v128.load(p), g));
    }
  }
  for (; o < to; o++, q += <usize>s << 2) {
    const g = load<f32>(dy + (<usize>o << 2)) * scale;
    for (let k = 0, p = q; k < kw; k++, p += right) store<f32>(p, load<f32>(p) + g);
  }
}

/** x is dx here, and y is dy. */
export function avg_pool_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kd = <i32>a.kd, kh = <i32>a.kh, kw = <i32>a.kw, sw = <i32>a.sw;
  const pd = <i32>a.pd, ph = <i32>a.ph, pw = <i32>a.pw, pad = a.countPad != 0;
  const size = <usize>(id * ih * iw), from = insideFrom(a), to = insideTo(a, from);
  const deep = <usize>(ed * ih * iw) << 2, down = <usize>(eh * iw) << 2, right = <usize>ew << 2;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const dx = <usize>a.x + ((u * size) << 2);
    memory.fill(dx, 0, size << 2);
    let dy = <usize>a.y + ((u * <usize>(od * oh * ow)) << 2);
    for (let row = 0; row < od * oh; row++, dy += <usize>ow << 2) {
      const h = row % oh * <i32>a.sh - ph, d = row / oh * <i32>a.sd - pd;
      const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, kd, id), h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, kh, ih);
      const rows = counted(d, ed, kd, id, pd, pad) * counted(h, eh, kh, ih, ph, pad), whole = <f32>(1 / <f64>(rows * kw));
      const corner = dx + (<usize>(((d + d0 * ed) * ih + h + h0 * eh) * iw - pw) << 2);
      for (let o = 0; o < ow; o++) {
        if (o == from) o = to;
        if (o >= ow) break;
        const w = o * sw - pw, w0 = tapsFrom(w, ew), w1 = tapsTo(w, ew, kw, iw);
        const g = load<f32>(dy + (<usize>o << 2)) * <f32>(1 / <f64>(rows * counted(w, ew, kw, iw, pw, pad)));
        for (let i = d0, pi = corner + (<usize>(o * sw + w0 * ew) << 2); i < d1; i++, pi += deep) {
          for (let j = h0, pj = pi; j < h1; j++, pj += down) {
            for (let k = w0, p = pj; k < w1; k++, p += right) store<f32>(p, load<f32>(p) + g);
          }
        }
      }
      for (let i = d0, pi = corner + (<usize>(from * sw) << 2); i < d1; i++, pi += deep) {
        for (let j = h0, pj = pi; j < h1; j++, pj += down) spreadRow(dy, pj, from, to, sw, kw, right, whole);
      }
    }
  }
}

@unmanaged class Adaptive { x: f64; y: f64; id: f64; ih: f64; iw: f64; od: f64; oh: f64; ow: f64; }

// @ts-ignore: decorator
@inline function spanFrom(o: i32, n: i32, m: i32): i32 { return <i32>(<i64>o * n / m); }

// @ts-ignore: decorator
@inline function spanTo(o: i32, n: i32, m: i32): i32 { return <i32>(((<i64>o + 1) * n + m - 1) / m); }

/** Unit u is a plane. */
export function adaptive_avg_pool(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Adaptive>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const x = <usize>a.x + ((u * <usize>(id * ih * iw)) << 2);
    let y = <usize>a.y + ((u * <usize>(od * oh * ow)) << 2);
    for (let o = 0; o < od * oh * ow; o++, y += 4) {
      const w0 = spanFrom(o % ow, iw, ow), w1 = spanTo(o % ow, iw, ow);
      const h0 = spanFrom(o / ow % oh, ih, oh), h1 = spanTo(o / ow % oh, ih, oh);
      const d0 = spanFrom(o / ow / oh, id, od), d1 = spanTo(o / ow / oh, id, od);
      // Whole rows lie side by side and are summed as one run.
      const rows = ow == 1 ? 1 : h1 - h0, run = ow == 1 ? (h1 - h0) * iw : w1 - w0;
      let sum: f64 = 0;
      for (let d = d0; d < d1; d++) {
        let p = x + (<usize>((d * ih + h0) * iw + w0) << 2);
        for (let r = 0; r < rows; r++, p += <usize>iw << 2) sum += sumRun(p, run);
      }
      store<f32>(y, <f32>(sum / <f64>((d1 - d0) * (h1 - h0) * (w1 - w0))));
    }
  }
}

/** x is dx here, and y is dy. Unit u is a plane. */
export function adaptive_avg_pool_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Adaptive>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const size = <usize>(id * ih * iw);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const dx = <usize>a.x + ((u * size) << 2);
    memory.fill(dx, 0, size << 2);
    let dy = <usize>a.y + ((u * <usize>(od * oh * ow)) << 2);
    for (let o = 0; o < od * oh * ow; o++, dy += 4) {
      const w0 = spanFrom(o % ow, iw, ow), w1 = spanTo(o % ow, iw, ow);
      const h0 = spanFrom(o / ow % oh, ih, oh), h1 = spanTo(o / ow % oh, ih, oh);
      const d0 = spanFrom(o / ow / oh, id, od), d1 = spanTo(o / ow / oh, id, od);
      const g = <f32>(<f64>load<f32>(dy) / <f64>((d1 - d0) * (h1 - h0) * (w1 - w0))), wide = f32x4.splat(g);
      for (let d = d0; d < d1; d++) {
        for (let h = h0; h < h1; h++) {
          let p = dx + (<usize>((d * ih + h) * iw + w0) << 2);
          const end = p + (<usize>(w1 - w0) << 2);
          for (; p + 16 <= end; p += 16) v128.store(p, f32x4.add(v128.load(p), wide));
          for (; p < end; p += 4) store<f32>(p, load<f32>(p) + g);
        }
      }
    }
  }
}
