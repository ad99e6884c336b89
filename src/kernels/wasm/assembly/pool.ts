// Pooling over [planes, depth, height, width]. A unit of a forward kernel is one row of outputs; of a gradient, a plane.
// Outputs whose windows lie within the row on both sides are computed four at a time, the others one by one.

import { sumRun } from "./lib_runs";

/** d, h, w: input, output and kernel lengths (i, o, k), stride, padding and dilation (s, p, e). */
@unmanaged class Pool {
  x: f64; y: f64; index: f64; countPad: f64;
  id: f64; ih: f64; iw: f64; od: f64; oh: f64; ow: f64; kd: f64; kh: f64; kw: f64;
  sd: f64; sh: f64; sw: f64; pd: f64; ph: f64; pw: f64; ed: f64; eh: f64; ew: f64;
}

/** ceil(a / b) for b > 0, but 0 for negative a. */
// @ts-ignore: decorator
@inline function ceilDiv(a: i32, b: i32): i32 { return a > 0 ? (a + b - 1) / b : 0; }

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

/** Lanes p, p + s, p + 2 s, p + 3 s (s in elements), touching nothing beyond the last. */
// @ts-ignore: decorator
@inline function loadEvery(p: usize, s: i32): v128 {
  if (s == 1) return v128.load(p);
  if (s == 2) return v128.shuffle<f32>(v128.load(p), v128.load(p, 12), 0, 2, 5, 7);
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

export function max_pool(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kw = <i32>a.kw, sw = <i32>a.sw;
  const from = insideFrom(a), to = insideTo(a, from), wide = to - from >= 4;
  const lanes = i32x4.mul(i32x4(0, 1, 2, 3), i32x4.splat(sw));
  for (let u = lo; u < hi; u++) {
    const h = u % oh * <i32>a.sh - <i32>a.ph, d = u / oh % od * <i32>a.sd - <i32>a.pd;
    const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, <i32>a.kd, id);
    const h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, <i32>a.kh, ih);
    const plane = <usize>a.x + ((<usize>(u / oh / od) * <usize>(id * ih * iw)) << 2);
    const place = (<usize>u * <usize>ow) << 2;
    if (!wide || d0 >= d1 || h0 >= h1) {
      for (let o = 0; o < ow; o++) maxAt(a, plane, d, d0, d1, h, h0, h1, o, place + (<usize>o << 2));
      continue;
    }
    for (let o = 0; o < from; o++) maxAt(a, plane, d, d0, d1, h, h0, h1, o, place + (<usize>o << 2));
    for (let o = from; o < to; o += 4) {
      o = min(o, to - 4); // the last four may repeat what is done
      const w = o * sw - <i32>a.pw;
      const corner = ((d + d0 * ed) * ih + h + h0 * eh) * iw + w;
      let best = loadEvery(plane + (<usize>corner << 2), sw), at = i32x4.add(lanes, i32x4.splat(corner));
      for (let i = d0; i < d1; i++) {
        for (let j = h0; j < h1; j++) {
          let where = ((d + i * ed) * ih + h + j * eh) * iw + w;
          for (let k = 0; k < kw; k++, where += ew) {
            const v = loadEvery(plane + (<usize>where << 2), sw);
            // Larger, or NaN: the last NaN wins, as in torch.
            const beats = v128.or(f32x4.gt(v, best), f32x4.ne(v, v));
            best = v128.bitselect(v, best, beats);
            at = v128.bitselect(i32x4.add(lanes, i32x4.splat(where)), at, beats);
          }
        }
      }
      v128.store(<usize>a.y + place + (<usize>o << 2), best);
      v128.store(<usize>a.index + place + (<usize>o << 2), at);
    }
    for (let o = to; o < ow; o++) maxAt(a, plane, d, d0, d1, h, h0, h1, o, place + (<usize>o << 2));
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

export function avg_pool(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kd = <i32>a.kd, kh = <i32>a.kh, kw = <i32>a.kw, sw = <i32>a.sw;
  const pd = <i32>a.pd, ph = <i32>a.ph, pw = <i32>a.pw, pad = a.countPad != 0;
  const from = insideFrom(a), to = insideTo(a, from);
  for (let u = lo; u < hi; u++) {
    const h = u % oh * <i32>a.sh - ph, d = u / oh % od * <i32>a.sd - pd;
    const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, kd, id), h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, kh, ih);
    const rows = counted(d, ed, kd, id, pd, pad) * counted(h, eh, kh, ih, ph, pad);
    const plane = <usize>a.x + ((<usize>(u / oh / od) * <usize>(id * ih * iw)) << 2);
    const y = <usize>a.y + ((<usize>u * <usize>ow) << 2);
    let o = 0;
    while (o < ow) {
      const w = o * sw - pw;
      if (o >= from && to - o >= 4) {
        let low = f64x2.splat(0), high = low;
        for (let i = d0; i < d1; i++) {
          for (let j = h0; j < h1; j++) {
            let p = plane + (<usize>(((d + i * ed) * ih + h + j * eh) * iw + w) << 2);
            for (let k = 0; k < kw; k++, p += <usize>ew << 2) {
              const v = loadEvery(p, sw);
              low = f64x2.add(low, f64x2.promote_low_f32x4(v));
              high = f64x2.add(high, f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 0)));
            }
          }
        }
        const count = f64x2.splat(<f64>(rows * kw));
        low = f32x4.demote_f64x2_zero(f64x2.div(low, count));
        high = f32x4.demote_f64x2_zero(f64x2.div(high, count));
        v128.store(y + (<usize>o << 2), i64x2.shuffle(low, high, 0, 2));
        o += 4;
        continue;
      }
      const w0 = tapsFrom(w, ew), w1 = tapsTo(w, ew, kw, iw);
      let sum: f64 = 0;
      for (let i = d0; i < d1; i++) {
        for (let j = h0; j < h1; j++) {
          const row = ((d + i * ed) * ih + h + j * eh) * iw + w;
          for (let k = w0; k < w1; k++) sum += <f64>load<f32>(plane + (<usize>(row + k * ew) << 2));
        }
      }
      store<f32>(y + (<usize>o << 2), <f32>(sum / <f64>(rows * counted(w, ew, kw, iw, pw, pad))));
      o++;
    }
  }
}

/** x is dx here, and y is dy. */
export function avg_pool_grad(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Pool>(args);
  const id = <i32>a.id, ih = <i32>a.ih, iw = <i32>a.iw, od = <i32>a.od, oh = <i32>a.oh, ow = <i32>a.ow;
  const ed = <i32>a.ed, eh = <i32>a.eh, ew = <i32>a.ew, kd = <i32>a.kd, kh = <i32>a.kh, kw = <i32>a.kw, sw = <i32>a.sw;
  const pd = <i32>a.pd, ph = <i32>a.ph, pw = <i32>a.pw, pad = a.countPad != 0;
  const size = <usize>(id * ih * iw);
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const dx = <usize>a.x + ((u * size) << 2);
    memory.fill(dx, 0, size << 2);
    let dy = <usize>a.y + ((u * <usize>(od * oh * ow)) << 2);
    for (let row = 0; row < od * oh; row++) {
      const h = row % oh * <i32>a.sh - ph, d = row / oh * <i32>a.sd - pd;
      const d0 = tapsFrom(d, ed), d1 = tapsTo(d, ed, kd, id), h0 = tapsFrom(h, eh), h1 = tapsTo(h, eh, kh, ih);
      const rows = counted(d, ed, kd, id, pd, pad) * counted(h, eh, kh, ih, ph, pad);
      const whole = 1 / <f64>(rows * kw);
      for (let o = 0; o < ow; o++, dy += 4) {
        const w = o * sw - pw;
        let w0 = 0, w1 = kw, scale = whole;
        if (w < 0 || w + (kw - 1) * ew >= iw) {
          w0 = tapsFrom(w, ew);
          w1 = tapsTo(w, ew, kw, iw);
          scale = 1 / <f64>(rows * counted(w, ew, kw, iw, pw, pad));
        }
        const g = <f32>(<f64>load<f32>(dy) * scale);
        for (let i = d0; i < d1; i++) {
          for (let j = h0; j < h1; j++) {
            let p = dx + (<usize>(((d + i * ed) * ih + h + j * eh) * iw + w + w0 * ew) << 2);
            for (let k = w0; k < w1; k++, p += <usize>ew << 2) store<f32>(p, load<f32>(p) + g);
          }
        }
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
