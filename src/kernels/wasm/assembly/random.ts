import { storeLanes, unitByte } from "./lib_lanes";
import { splat } from "./lib_math";

@unmanaged class DropoutMask { y: f64; length: f64; threshold: f64; scale: f64; keyLow: f64; keyHigh: f64; unit: f64; }

/** y[i] = scale where the random 32-bit number of (key, i) is at most threshold, else 0; threshold -1: nowhere. */
export function dropout_mask(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<DropoutMask>(args);
  const key1 = mix(i32x4.splat(<u32>a.keyLow ^ 0x9e3779b9));
  const key2 = mix(i32x4.add(key1, i32x4.splat(<u32>a.keyHigh + 0x85ebca6b)));
  const scale = splat(a.threshold < 0 ? 0 : <f32>a.scale);
  const threshold = i32x4.splat(a.threshold < 0 ? 0 : <u32>a.threshold);
  const begin = unitByte(lo, a.unit, a.length), bytes = unitByte(hi, a.unit, a.length) - begin;
  let counter = i32x4.add(i32x4.add(i32x4.splat(<i32>(begin >> 2)), i32x4(0, 1, 2, 3)), key1);
  let y = <usize>a.y + begin;
  const end = y + bytes;
  for (; y < end; y += 16) {
    // Two rounds with a part of the key before each: with one round, masks of two keys would be shifts of one another.
    const bits = mix(v128.xor(mix(counter), key2));
    storeLanes(y, min<usize>(4, (end - y) >> 2), v128.and(scale, i32x4.le_u(bits, threshold)));
    counter = i32x4.add(counter, i32x4.splat(4));
  }
}

/** A permutation of the 32-bit numbers in which each input bit reaches each output bit: multiply and xor-shift. */
// @ts-ignore: decorator
@inline function mix(x: v128): v128 {
  let t = v128.xor(x, i32x4.shr_u(x, 16));
  t = i32x4.mul(t, i32x4.splat(0x21f0aaad));
  t = v128.xor(t, i32x4.shr_u(t, 15));
  t = i32x4.mul(t, i32x4.splat(0x735a2d97));
  return v128.xor(t, i32x4.shr_u(t, 15));
}
