@unmanaged class Fill { y: f64; length: f64; value: f64; unit: f64; }

/** y = value. Unit u is the elements [u * unit, (u + 1) * unit). */
export function fill(args: usize, lo: i32, hi: i32, worker: i32): void {
  const a = changetype<Fill>(args);
  const value = <f32>a.value;
  const v = f32x4.splat(value);
  const unit = <usize>a.unit, length = <usize>a.length;
  let p = <usize>a.y + ((<usize>lo * unit) << 2);
  const end = <usize>a.y + (min(<usize>hi * unit, length) << 2);
  for (; p + 16 <= end; p += 16) v128.store(p, v);
  for (; p < end; p += 4) store<f32>(p, value);
}
