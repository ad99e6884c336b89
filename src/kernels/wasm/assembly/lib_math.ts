// float32 functions on four lanes, and their scalar forms. Only + - * / sqrt, comparisons and integer steps are used,
// each rounded as IEEE 754 says, so the bits are the same on every machine. No branches: every lane takes the same path.
//
// Polynomial coefficients are minimax (Remez exchange in 40 digits; coefficients rounded to float32 one after another,
// the rest refitted each time). The error given beside each is that of the rounded polynomial, relative to the function.

/** 1.5 * 2^23: adding it rounds to a whole number (half to even), which then stands in the low mantissa bits. */
const ROUNDER: f32 = 12582912.0;
const LOG2E: f32 = 1.44269504;
/** ln 2 in two parts; the first has 10 bits, so that n * LN2_HI is exact for every exponent n. */
const LN2_HI: f32 = 0.693359375;
const LN2_LO: f32 = -2.1219444e-4;

// @ts-ignore: decorator
@inline export function splat(x: f32): v128 { return f32x4.splat(x); }

/** mask ? a : b, by bits. */
// @ts-ignore: decorator
@inline export function select(mask: v128, a: v128, b: v128): v128 { return v128.bitselect(a, b, mask); }

// @ts-ignore: decorator
@inline function mulAdd(a: v128, b: v128, c: f32): v128 { return f32x4.add(f32x4.mul(a, b), splat(c)); }

/** x * log2(e) + ROUNDER: the nearest whole n in the low bits. NaN stays NaN. */
// @ts-ignore: decorator
@inline function roundedExponent(x: v128): v128 { return mulAdd(x, splat(LOG2E), ROUNDER); }

/** x - n ln 2, |r| <= 0.3466. */
// @ts-ignore: decorator
@inline function reduced(x: v128, n: v128): v128 {
  return f32x4.sub(f32x4.sub(x, f32x4.mul(n, splat(LN2_HI))), f32x4.mul(n, splat(LN2_LO)));
}

/** e^r - 1 for |r| <= 0.3467, relative error 1.5e-8. */
// @ts-ignore: decorator
@inline function expm1Core(r: v128): v128 {
  let p = mulAdd(splat(0.00138351985), r, 0.0083671026);
  p = mulAdd(p, r, 0.0416677557);
  p = mulAdd(p, r, 0.16666539);
  p = mulAdd(p, r, 0.49999997);
  return f32x4.add(f32x4.mul(f32x4.mul(r, r), p), r);
}

/** 2^n from n as an integer, -126 <= n <= 127. */
// @ts-ignore: decorator
@inline function powerOfTwo(n: v128): v128 { return i32x4.shl(i32x4.add(n, i32x4.splat(127)), 23); }

/** e^x. Subnormal results are right, rounded once; e^-inf = 0, overflow gives inf, NaN stays NaN. */
// @ts-ignore: decorator
@inline export function exp(x: v128): v128 {
  // pmin and pmax return their first argument when it is NaN. e^-104 rounds to 0 and e^89 to inf.
  const c = f32x4.pmax(f32x4.pmin(x, splat(89)), splat(-104));
  const t = roundedExponent(c);
  const n = i32x4.sub(t, splat(ROUNDER));
  const y = f32x4.add(expm1Core(reduced(c, f32x4.sub(t, splat(ROUNDER)))), splat(1));
  // Two factors, since 2^128 and 2^-150 are no float32; the first product is exact.
  const half = i32x4.shr_s(n, 1);
  return f32x4.mul(f32x4.mul(y, powerOfTwo(half)), powerOfTwo(i32x4.sub(n, half)));
}

/** e^x - 1, accurate near 0 as well. */
// @ts-ignore: decorator
@inline export function expm1(x: v128): v128 {
  const c = f32x4.pmax(f32x4.pmin(x, splat(89)), splat(-20));
  const t = roundedExponent(c);
  const n = i32x4.sub(t, splat(ROUNDER));
  const q = expm1Core(reduced(c, f32x4.sub(t, splat(ROUNDER))));
  // 2^n q + (2^n - 1), halved until the end because 2^128 is no float32.
  const half = powerOfTwo(i32x4.sub(n, i32x4.splat(1)));
  const y = f32x4.add(f32x4.mul(half, q), f32x4.sub(half, splat(0.5)));
  // Below 2^-25 e^x - 1 rounds to x; this also keeps the sign of zero and the last bit of subnormal numbers.
  return select(f32x4.lt(f32x4.abs(x), splat(2.98023224e-8)), x, f32x4.add(y, y));
}

/** log u + c for u > 0 and not subnormal; garbage otherwise. */
// @ts-ignore: decorator
@inline function logNormal(u: v128, exponentShift: v128, c: v128): v128 {
  // u = m * 2^e with m in [0.707, 1.414): moving the mantissa's bits by those of sqrt(1/2) lets the carry choose e.
  const bits = i32x4.sub(u, i32x4.splat(0x3f3504f3));
  const e = i32x4.sub(i32x4.shr_s(bits, 23), exponentShift);
  const m = i32x4.add(v128.and(bits, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3));
  return logCore(f32x4.sub(m, splat(1)), f32x4.convert_i32x4_s(e), c);
}

/** e^x for x <= 0, in fewer steps: the bits of exp, but 0 where the result would be subnormal. NaN stays NaN. */
// @ts-ignore: decorator
@inline export function expDown(x: v128): v128 {
  const t = roundedExponent(x);
  const n = i32x4.sub(t, splat(ROUNDER));
  const y = f32x4.add(expm1Core(reduced(x, f32x4.sub(t, splat(ROUNDER)))), splat(1));
  // y is in [0.7, 1.42), so that n can be added to its exponent; what is too small, and has no n, is cleared.
  const scaled = v128.andnot(i32x4.add(y, i32x4.shl(n, 23)), f32x4.lt(x, splat(-87.33654)));
  return v128.or(scaled, f32x4.ne(x, x));
}

/** The natural logarithm. log 0 = -inf, log of a negative number is NaN. */
// @ts-ignore: decorator
@inline export function log(x: v128): v128 {
  // Subnormal numbers are lifted by 2^23 first.
  const small = f32x4.lt(x, splat(1.17549435e-38));
  const lifted = select(small, f32x4.mul(x, splat(8388608)), x);
  const y = logNormal(lifted, v128.and(small, i32x4.splat(23)), splat(0));
  return logEdges(x, y);
}

/** log(1 + x), accurate near 0 as well. */
// @ts-ignore: decorator
@inline export function log1p(x: v128): v128 {
  const u = f32x4.add(x, splat(1));
  // What the rounding of 1 + x lost; exact up to 2^24, and beyond that too small to matter.
  const lost = f32x4.sub(x, f32x4.sub(u, splat(1)));
  const y = logNormal(u, splat(0), f32x4.div(lost, u));
  return select(f32x4.eq(x, splat(0)), x, logEdges(u, y));
}

/** y where 0 < x < inf; elsewhere what the logarithm of x is. */
// @ts-ignore: decorator
@inline function logEdges(x: v128, y: v128): v128 {
  const high = select(f32x4.lt(x, splat(Infinity)), y, x);
  const low = select(f32x4.eq(x, splat(0)), splat(-Infinity), splat(NaN));
  return select(f32x4.le(x, splat(0)), low, high);
}

/** log(1 + f) + e ln 2 + c for f in [-0.293, 0.415]; the polynomial's error is 1.8e-9. */
// @ts-ignore: decorator
@inline function logCore(f: v128, e: v128, c: v128): v128 {
  let p = mulAdd(splat(0.0534793064), f, -0.109192148);
  p = mulAdd(p, f, 0.121078625);
  p = mulAdd(p, f, -0.125495687);
  p = mulAdd(p, f, 0.142096385);
  p = mulAdd(p, f, -0.16659373);
  p = mulAdd(p, f, 0.200022221);
  p = mulAdd(p, f, -0.250001669);
  p = mulAdd(p, f, 0.333333135);
  const z = f32x4.mul(f, f);
  // From small to large: f^3 P(f) - f^2 / 2, then f, then the exponent's share.
  let y = f32x4.add(f32x4.mul(f32x4.mul(f, z), p), f32x4.add(f32x4.mul(e, splat(LN2_LO)), c));
  y = f32x4.sub(y, f32x4.mul(z, splat(0.5)));
  return f32x4.add(f32x4.add(f, y), f32x4.mul(e, splat(LN2_HI)));
}

/** 1 / (1 + e^-x), small where x is very negative instead of 0. */
// @ts-ignore: decorator
@inline export function sigmoid(x: v128): v128 {
  const e = exp(f32x4.neg(f32x4.abs(x)));
  return f32x4.div(select(f32x4.lt(x, splat(0)), e, splat(1)), f32x4.add(e, splat(1)));
}

/** log(1 + e^x). */
// @ts-ignore: decorator
@inline export function softplus(x: v128): v128 {
  return f32x4.add(f32x4.pmax(x, splat(0)), log1p(exp(f32x4.neg(f32x4.abs(x)))));
}

/** x + x^3 P(x^2) up to 0.58 (error 1.9e-9), from there 1 - 2 e / (1 + e) with e = e^(-2|x|), which cannot overflow. */
// @ts-ignore: decorator
@inline export function tanh(x: v128): v128 {
  const z = f32x4.abs(x);
  const s = f32x4.mul(x, x);
  let p = mulAdd(splat(-0.0060468479), s, 0.0209121089);
  p = mulAdd(p, s, -0.0538141355);
  p = mulAdd(p, s, 0.133322313);
  p = mulAdd(p, s, -0.333333075);
  const near = f32x4.add(f32x4.mul(f32x4.mul(z, s), p), z);
  const e = expDown(f32x4.mul(z, splat(-2)));
  const far = f32x4.sub(splat(1), f32x4.div(f32x4.add(e, e), f32x4.add(e, splat(1))));
  return withSign(select(f32x4.lt(z, splat(0.58)), near, far), x);
}

/** |a| with the sign of b. */
// @ts-ignore: decorator
@inline function withSign(a: v128, b: v128): v128 { return select(splat(-0.0), b, f32x4.abs(a)); }

/** e^(z^2) erfc(z) for 0 <= z <= 10.2: a rational minimax fit with error 6.6e-9, all terms positive. */
// @ts-ignore: decorator
@inline export function scaledErfc(z: v128): v128 {
  let p = mulAdd(splat(0.0326500908), z, 0.228582516);
  p = mulAdd(p, z, 0.730335653);
  p = mulAdd(p, z, 1.23727632);
  p = mulAdd(p, z, 1);
  let q = mulAdd(splat(0.0578700788), z, 0.405178517);
  q = mulAdd(q, z, 1.32298756);
  q = mulAdd(q, z, 2.39968443);
  q = mulAdd(q, z, 2.3656559);
  q = mulAdd(q, z, 1);
  return f32x4.div(p, q);
}

/** The error function: x + x R(x^2) up to 1 (error 1.4e-9), from there 1 - erfc. */
// @ts-ignore: decorator
@inline export function erf(x: v128): v128 {
  // Beyond 10.2 erfc is 0 in float32.
  const z = f32x4.pmin(f32x4.abs(x), splat(10.2));
  const s = f32x4.mul(z, z);
  let r = mulAdd(splat(7.8069039e-5), s, -7.9978531e-4);
  r = mulAdd(r, s, 0.00518716220);
  r = mulAdd(r, s, -0.0268533472);
  r = mulAdd(r, s, 0.112835787);
  r = mulAdd(r, s, -0.37612626);
  r = mulAdd(r, s, 0.128379166);
  const near = f32x4.add(z, f32x4.mul(z, r));
  const far = f32x4.sub(splat(1), f32x4.mul(expDown(f32x4.neg(s)), scaledErfc(z)));
  return withSign(select(f32x4.lt(z, splat(1)), near, far), x);
}

// Scalar forms: the same bits as a lane of the vector.

// @ts-ignore: decorator
@inline export function exp1(x: f32): f32 { return f32x4.extract_lane(exp(splat(x)), 0); }

// @ts-ignore: decorator
@inline export function log1(x: f32): f32 { return f32x4.extract_lane(log(splat(x)), 0); }
