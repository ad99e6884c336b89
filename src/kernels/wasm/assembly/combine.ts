import { loadLanes, storeLanes } from "./lib_lanes";

@unmanaged class Combine { parts: f64; count: f64; y: f64; bytes: f64; op: f64; unit: f64; }

/** y = parts combined in their order: kinds 0 to 2 are sum, max and min of float32, 3 to 5 of float64. Unit u is the bytes [u * unit, (u + 1) * unit). */
export function combine(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Combine>(args);
  const table = <usize>a.parts, count = <usize>a.count, y = <usize>a.y, unit = <usize>a.unit, bytes = <usize>a.bytes;
  const begin = <usize>lo * unit, end = min(<usize>hi * unit, bytes);
  switch (<i32>a.op) {
    case 0:
      // Twice a float32's digits and two more: a sum of two rounds to float32 as it does over double.
      if (count == 2) merge<Add32>(table, count, y, begin, end);
      else merge<Sum32>(table, count, y, begin, end);
      break;
    case 1: merge<Max32>(table, count, y, begin, end); break;
    case 2: merge<Min32>(table, count, y, begin, end); break;
    case 3: merge<Sum64>(table, count, y, begin, end); break;
    case 4: merge<Max64>(table, count, y, begin, end); break;
    case 5: merge<Min64>(table, count, y, begin, end); break;
  }
}

// @ts-ignore: decorator
@inline function merge<F>(table: usize, count: usize, y: usize, begin: usize, end: usize): void {
  let at = begin;
  for (; at + 16 <= end; at += 16) v128.store(y + at, changetype<F>(0).v(table, count, at, 4));
  if (at < end) {
    const k = (end - at) >> 2;
    storeLanes(y + at, k, changetype<F>(0).v(table, count, at, k));
  }
}

/** Words of 4 bytes of part r: the k from byte `at` on. */
// @ts-ignore: decorator
@inline function part(table: usize, r: usize, at: usize, k: usize): v128 {
  return loadLanes(<usize>load<u32>(table + (r << 2)) + at, k);
}

@unmanaged class Add32 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    return f32x4.add(part(table, 0, at, k), part(table, 1, at, k));
  }
}
@unmanaged class Sum32 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    const first = part(table, 0, at, k);
    let low = f64x2.promote_low_f32x4(first), high = f64x2.promote_low_f32x4(v128.shuffle<i64>(first, first, 1, 1));
    for (let r: usize = 1; r < count; r++) {
      const x = part(table, r, at, k);
      low = f64x2.add(low, f64x2.promote_low_f32x4(x));
      high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i64>(x, x, 1, 1)));
    }
    return v128.shuffle<i64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
  }
}
@unmanaged class Max32 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    let x = part(table, 0, at, k);
    for (let r: usize = 1; r < count; r++) x = f32x4.max(x, part(table, r, at, k));
    return x;
  }
}
@unmanaged class Min32 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    let x = part(table, 0, at, k);
    for (let r: usize = 1; r < count; r++) x = f32x4.min(x, part(table, r, at, k));
    return x;
  }
}
@unmanaged class Sum64 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    let x = part(table, 0, at, k);
    for (let r: usize = 1; r < count; r++) x = f64x2.add(x, part(table, r, at, k));
    return x;
  }
}
@unmanaged class Max64 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    let x = part(table, 0, at, k);
    for (let r: usize = 1; r < count; r++) x = f64x2.max(x, part(table, r, at, k));
    return x;
  }
}
@unmanaged class Min64 {
  @inline v(table: usize, count: usize, at: usize, k: usize): v128 {
    let x = part(table, 0, at, k);
    for (let r: usize = 1; r < count; r++) x = f64x2.min(x, part(table, r, at, k));
    return x;
  }
}
