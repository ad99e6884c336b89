// Runs of elements of type T between an image and its columns.

// @ts-ignore: decorator
@inline export function zeroRun<T>(q: usize, n: i32): void {
  const end = q + <usize>n * sizeof<T>(), none = i64x2.splat(0);
  for (; q + 16 <= end; q += 16) v128.store(q, none);
  for (; q < end; q += sizeof<T>()) store<T>(q, <T>0);
}

// @ts-ignore: decorator
@inline export function copyRun<T>(p: usize, q: usize, n: i32): void {
  const end = q + <usize>n * sizeof<T>();
  for (; q + 64 <= end; p += 64, q += 64) {
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    v128.store(q, a); v128.store(q, b, 16); v128.store(q, c, 32); v128.store(q, d, 48);
  }
  for (; q + 16 <= end; p += 16, q += 16) v128.store(q, v128.load(p));
  for (; q < end; p += sizeof<T>(), q += sizeof<T>()) store<T>(q, load<T>(p));
}

/** p += q */
// @ts-ignore: decorator
@inline export function addRun<T>(p: usize, q: usize, n: i32): void {
  const end = q + <usize>n * sizeof<T>();
  for (; q + 32 <= end; p += 32, q += 32) {
    const a = v128.add<T>(v128.load(p), v128.load(q)), b = v128.add<T>(v128.load(p, 16), v128.load(q, 16));
    v128.store(p, a); v128.store(p, b, 16);
  }
  for (; q < end; p += sizeof<T>(), q += sizeof<T>()) store<T>(p, load<T>(p) + load<T>(q));
}
