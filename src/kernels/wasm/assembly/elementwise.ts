import { loadLanes, map, map2, storeLanes, unitByte } from "./lib_lanes";
import { erf, exp, expm1, log, log1p, select, sigmoid, softplus, splat, tanh } from "./lib_math";

// In all of these, unit u is the elements [u * unit, (u + 1) * unit).

@unmanaged class Fill { y: f64; length: f64; value: f64; unit: f64; }

/** y = value. */
export function fill(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Fill>(args);
  const value = splat(<f32>a.value);
  const end = <usize>a.y + unitByte(hi, a.unit, a.length);
  let p = <usize>a.y + unitByte(lo, a.unit, a.length);
  for (; p + 16 <= end; p += 16) v128.store(p, value);
  if (p < end) storeLanes(p, (end - p) >> 2, value);
}

@unmanaged class Cast { x: f64; y: f64; length: f64; kind: f64; unit: f64; }

/** y = x in another type. Kind 0: any 4-byte type to itself, 1: float32 to int32, 2: int32 to float32, 3: float64 to float32, 4: float32 to float64. */
export function cast(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Cast>(args);
  const begin = unitByte(lo, a.unit, a.length), end = unitByte(hi, a.unit, a.length);
  const x = <usize>a.x + begin, y = <usize>a.y + begin, bytes = end - begin;
  switch (<i32>a.kind) {
    case 0: memory.copy(y, x, bytes); break;
    case 1: map<ToInt>(x, y, bytes, splat(0)); break;
    case 2: map<FromInt>(x, y, bytes, splat(0)); break;
    case 3:
      for (let i: usize = 0; i < bytes; i += 4) store<f32>(y + i, <f32>load<f64>(x + begin + 2 * i));
      break;
    case 4:
      for (let i: usize = 0; i < bytes; i += 4) store<f64>(y + begin + 2 * i, <f64>load<f32>(x + i));
      break;
  }
}
@unmanaged class ToInt { @inline v(x: v128, c: v128): v128 { return i32x4.trunc_sat_f32x4_s(x); } }
@unmanaged class FromInt { @inline v(x: v128, c: v128): v128 { return f32x4.convert_i32x4_s(x); } }

@unmanaged class Where { condition: f64; a: f64; b: f64; y: f64; length: f64; ints: f64; unit: f64; }

/** y = condition ? a : b. A float32 condition holds where it is not 0 (NaN included), an int32 one where any bit is set. */
export function where(args: usize, lo: i32, hi: i32, worker: i32): void {
  const w = changetype<Where>(args);
  const begin = unitByte(lo, w.unit, w.length), bytes = unitByte(hi, w.unit, w.length) - begin;
  let condition = <usize>w.condition + begin, a = <usize>w.a + begin, b = <usize>w.b + begin, y = <usize>w.y + begin;
  // All bits but a float32's sign count: -0 is the one number that is 0 with a bit set.
  const counting = i32x4.splat(w.ints != 0 ? -1 : 0x7fffffff);
  const end = y + bytes;
  for (; y < end; y += 16) {
    const k = min<usize>(4, (end - y) >> 2);
    const no = i32x4.eq(v128.and(loadLanes(condition, k), counting), i32x4.splat(0));
    storeLanes(y, k, select(no, loadLanes(b, k), loadLanes(a, k)));
    condition += 16;
    a += 16;
    b += 16;
  }
}

@unmanaged class AddScaled { x: f64; y: f64; length: f64; scale: f64; unit: f64; }

/** y += scale * x. */
export function add_scaled(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<AddScaled>(args);
  const begin = unitByte(lo, a.unit, a.length), bytes = unitByte(hi, a.unit, a.length) - begin;
  const y = <usize>a.y + begin;
  map2<PlusScaled>(<usize>a.x + begin, y, y, bytes, splat(<f32>a.scale));
}
@unmanaged class PlusScaled {
  @inline v(x: v128, y: v128, c: v128): v128 { return f32x4.add(y, f32x4.mul(x, c)); }
}

@unmanaged class Unary { op: f64; x: f64; y: f64; length: f64; unit: f64; }

/** y = op(x); the codes are those of src/kernels/wasm/elementwise.ts. */
export function unary(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Unary>(args);
  const begin = unitByte(lo, a.unit, a.length), n = unitByte(hi, a.unit, a.length) - begin;
  const x = <usize>a.x + begin, y = <usize>a.y + begin;
  const none = splat(0);
  switch (<i32>a.op) {
    case 0: map<Neg>(x, y, n, none); break;
    case 1: map<Abs>(x, y, n, none); break;
    case 2: map<Sign>(x, y, n, none); break;
    case 3: map<Square>(x, y, n, none); break;
    case 4: map<Sqrt>(x, y, n, none); break;
    case 5: map<Rsqrt>(x, y, n, none); break;
    case 6: map<Reciprocal>(x, y, n, none); break;
    case 7: map<Exp>(x, y, n, none); break;
    case 8: map<Log>(x, y, n, none); break;
    case 9: map<Log1p>(x, y, n, none); break;
    case 10: map<Expm1>(x, y, n, none); break;
    case 11: map<Tanh>(x, y, n, none); break;
    case 12: map<Erf>(x, y, n, none); break;
    case 13: map<Sigmoid>(x, y, n, none); break;
    case 14: map<Softplus>(x, y, n, none); break;
    case 15: map<Sin>(x, y, n, none); break;
    case 16: map<Cos>(x, y, n, none); break;
    case 17: map<Floor>(x, y, n, none); break;
    case 18: map<Ceil>(x, y, n, none); break;
    case 19: map<Round>(x, y, n, none); break;
    case 20: map<IsNaN>(x, y, n, none); break;
    case 21: map<Not>(x, y, n, none); break;
  }
}

// @ts-ignore: decorator
@inline function oneWhere(mask: v128): v128 { return v128.and(mask, splat(1)); }

@unmanaged class Neg { @inline v(x: v128, c: v128): v128 { return f32x4.neg(x); } }
@unmanaged class Abs { @inline v(x: v128, c: v128): v128 { return f32x4.abs(x); } }
/** 0 for NaN, as in torch: (x > 0) - (x < 0). */
@unmanaged class Sign {
  @inline v(x: v128, c: v128): v128 {
    return f32x4.sub(oneWhere(f32x4.gt(x, splat(0))), oneWhere(f32x4.lt(x, splat(0))));
  }
}
@unmanaged class Square { @inline v(x: v128, c: v128): v128 { return f32x4.mul(x, x); } }
@unmanaged class Sqrt { @inline v(x: v128, c: v128): v128 { return f32x4.sqrt(x); } }
@unmanaged class Rsqrt { @inline v(x: v128, c: v128): v128 { return f32x4.div(splat(1), f32x4.sqrt(x)); } }
@unmanaged class Reciprocal { @inline v(x: v128, c: v128): v128 { return f32x4.div(splat(1), x); } }
@unmanaged class Exp { @inline v(x: v128, c: v128): v128 { return exp(x); } }
@unmanaged class Log { @inline v(x: v128, c: v128): v128 { return log(x); } }
@unmanaged class Log1p { @inline v(x: v128, c: v128): v128 { return log1p(x); } }
@unmanaged class Expm1 { @inline v(x: v128, c: v128): v128 { return expm1(x); } }
@unmanaged class Tanh { @inline v(x: v128, c: v128): v128 { return tanh(x); } }
@unmanaged class Erf { @inline v(x: v128, c: v128): v128 { return erf(x); } }
@unmanaged class Sigmoid { @inline v(x: v128, c: v128): v128 { return sigmoid(x); } }
@unmanaged class Softplus { @inline v(x: v128, c: v128): v128 { return softplus(x); } }
@unmanaged class Floor { @inline v(x: v128, c: v128): v128 { return f32x4.floor(x); } }
@unmanaged class Ceil { @inline v(x: v128, c: v128): v128 { return f32x4.ceil(x); } }
@unmanaged class Round { @inline v(x: v128, c: v128): v128 { return f32x4.nearest(x); } }
@unmanaged class IsNaN { @inline v(x: v128, c: v128): v128 { return oneWhere(f32x4.ne(x, x)); } }
@unmanaged class Not { @inline v(x: v128, c: v128): v128 { return oneWhere(f32x4.eq(x, splat(0))); } }

// Lane by lane in double precision, rounded once: the compiler's float32 sine loses all digits for large arguments.
function sin1(x: f32): f32 { return <f32>NativeMath.sin(x); }
function cos1(x: f32): f32 { return <f32>NativeMath.cos(x); }
@unmanaged class Sin {
  @inline v(x: v128, c: v128): v128 {
    return f32x4(
      sin1(f32x4.extract_lane(x, 0)), sin1(f32x4.extract_lane(x, 1)),
      sin1(f32x4.extract_lane(x, 2)), sin1(f32x4.extract_lane(x, 3)),
    );
  }
}
@unmanaged class Cos {
  @inline v(x: v128, c: v128): v128 {
    return f32x4(
      cos1(f32x4.extract_lane(x, 0)), cos1(f32x4.extract_lane(x, 1)),
      cos1(f32x4.extract_lane(x, 2)), cos1(f32x4.extract_lane(x, 3)),
    );
  }
}
