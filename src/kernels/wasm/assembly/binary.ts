import { gatherLanes, storeLanes } from "./lib_lanes";
import { splat } from "./lib_math";

/**
 * The result is `rows` rows of `inner` elements. Rows are counted over the outer axes and one middle axis, along which
 * addresses rise by a fixed step. Unit u is segment u % segments of the rows from (u / segments) * unitRows on.
 * After the fields stand length, stride of a and stride of b for each outer axis, the slowest first.
 */
@unmanaged class Binary {
  op: f64; a: f64; b: f64; y: f64;
  rows: f64; inner: f64; aInner: f64; bInner: f64;
  middle: f64; aMiddle: f64; bMiddle: f64;
  segments: f64; segment: f64; unitRows: f64; outerAxes: f64;
}

/** y = a op b; the codes are those of src/kernels/wasm/elementwise.ts. */
export function binary(args: usize, lo: i32, hi: i32, worker: i32): void {
  switch (<i32>changetype<Binary>(args).op) {
    case 0: units<Add>(args, lo, hi); break;
    case 1: units<Sub>(args, lo, hi); break;
    case 2: units<Mul>(args, lo, hi); break;
    case 3: units<Div>(args, lo, hi); break;
    case 4: units<Pow>(args, lo, hi); break;
    case 5: units<Maximum>(args, lo, hi); break;
    case 6: units<Minimum>(args, lo, hi); break;
    case 7: units<Equal>(args, lo, hi); break;
    case 8: units<NotEqual>(args, lo, hi); break;
    case 9: units<Less>(args, lo, hi); break;
    case 10: units<LessEqual>(args, lo, hi); break;
    case 11: units<Greater>(args, lo, hi); break;
    case 12: units<GreaterEqual>(args, lo, hi); break;
  }
}

function units<F>(args: usize, lo: i32, hi: i32): void {
  const p = changetype<Binary>(args);
  const rows = <usize>p.rows, inner = <usize>p.inner, middle = <usize>p.middle;
  const segments = <usize>p.segments, segment = <usize>p.segment, unitRows = <usize>p.unitRows;
  const aInner = <usize>p.aInner, bInner = <usize>p.bInner;
  const aStep = <usize>p.aMiddle << 2, bStep = <usize>p.bMiddle << 2;
  for (let u = <usize>lo; u < <usize>hi; u++) {
    const column = (u % segments) * segment;
    const n = min(segment, inner - column);
    let r = (u / segments) * unitRows;
    const end = min(r + unitRows, rows);
    while (r < end) {
      const m = r % middle;
      const run = min(end, r + middle - m);
      let a = <usize>p.a + ((outerOffset(args, r / middle, 1) + column * aInner) << 2) + m * aStep;
      let b = <usize>p.b + ((outerOffset(args, r / middle, 2) + column * bInner) << 2) + m * bStep;
      let y = <usize>p.y + ((r * inner + column) << 2);
      for (; r < run; r++) {
        row<F>(a, aInner, b, bInner, y, n);
        a += aStep;
        b += bStep;
        y += inner << 2;
      }
    }
  }
}

/** Elements from the start of a (which = 1) or b (2) to outer index `at`. */
function outerOffset(args: usize, at: usize, which: usize): usize {
  let offset: usize = 0;
  for (let axis = <usize>changetype<Binary>(args).outerAxes; axis > 0; axis--) {
    const entry = args + offsetof<Binary>() + (axis - 1) * 24;
    const length = <usize>load<f64>(entry);
    offset += (at % length) * <usize>load<f64>(entry + which * 8);
    at /= length;
  }
  return offset;
}

// @ts-ignore: decorator
@inline function row<F>(a: usize, aStride: usize, b: usize, bStride: usize, y: usize, n: usize): void {
  const whole = (n & ~3) << 2;
  let i: usize = 0;
  if (aStride == 1 && bStride == 1) {
    for (; i < whole; i += 16) v128.store(y + i, changetype<F>(0).v(v128.load(a + i), v128.load(b + i)));
  } else if (aStride == 1 && bStride == 0) {
    const right = v128.load32_splat(b);
    for (; i < whole; i += 16) v128.store(y + i, changetype<F>(0).v(v128.load(a + i), right));
  } else if (aStride == 0 && bStride == 1) {
    const left = v128.load32_splat(a);
    for (; i < whole; i += 16) v128.store(y + i, changetype<F>(0).v(left, v128.load(b + i)));
  }
  // The last one to three elements, and all of a row whose strides are other than these.
  for (let e = i >> 2; e < n; e += 4) {
    const k = min<usize>(4, n - e);
    const left = gatherLanes(a + ((e * aStride) << 2), aStride, k);
    const right = gatherLanes(b + ((e * bStride) << 2), bStride, k);
    storeLanes(y + (e << 2), k, changetype<F>(0).v(left, right));
  }
}

// @ts-ignore: decorator
@inline function oneWhere(mask: v128): v128 { return v128.and(mask, splat(1)); }

@unmanaged class Add { @inline v(a: v128, b: v128): v128 { return f32x4.add(a, b); } }
@unmanaged class Sub { @inline v(a: v128, b: v128): v128 { return f32x4.sub(a, b); } }
@unmanaged class Mul { @inline v(a: v128, b: v128): v128 { return f32x4.mul(a, b); } }
@unmanaged class Div { @inline v(a: v128, b: v128): v128 { return f32x4.div(a, b); } }
@unmanaged class Maximum { @inline v(a: v128, b: v128): v128 { return f32x4.max(a, b); } }
@unmanaged class Minimum { @inline v(a: v128, b: v128): v128 { return f32x4.min(a, b); } }
@unmanaged class Equal { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.eq(a, b)); } }
@unmanaged class NotEqual { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.ne(a, b)); } }
@unmanaged class Less { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.lt(a, b)); } }
@unmanaged class LessEqual { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.le(a, b)); } }
@unmanaged class Greater { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.gt(a, b)); } }
@unmanaged class GreaterEqual { @inline v(a: v128, b: v128): v128 { return oneWhere(f32x4.ge(a, b)); } }

/** In double precision, rounded once; the common square without the detour. */
function pow1(a: f32, b: f32): f32 { return b == 2 ? a * a : <f32>NativeMath.pow(a, b); }
@unmanaged class Pow {
  @inline v(a: v128, b: v128): v128 {
    return f32x4(
      pow1(f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0)), pow1(f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1)),
      pow1(f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2)), pow1(f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3)),
    );
  }
}
