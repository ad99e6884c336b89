/**
 * Functions of E (one float or four) that WGSL lacks or leaves too free: its tanh, sin and cos may be off by 2^-11, its log by
 * 2^-21 near 1. Coefficients are those of wasm/assembly/lib_math.ts. NaN is found by its bits, since compilers may take for
 * granted that there is none.
 */
export const MATH = `
// In variables, since WGSL refuses infinite constants.
var<private> INFINITE: u32 = 0x7f800000u;
var<private> NOT_A_NUMBER: u32 = 0x7fc00000u;

fn is_nan(v: E) -> B { return (bitcast<U>(v) & U(0x7fffffffu)) > U(0x7f800000u); }
fn flag(v: B) -> E { return select(E(0.0), E(1.0), v); }

fn with_sign(a: E, b: E) -> E { return bitcast<E>((bitcast<U>(a) & U(0x7fffffffu)) | (bitcast<U>(b) & U(0x80000000u))); }

fn expm1_core(r: E) -> E {
  var p = E(0.00138351985) * r + 0.0083671026;
  p = p * r + 0.0416677557;
  p = p * r + 0.16666539;
  p = p * r + 0.49999997;
  return r * r * p + r;
}
fn expm1_(x: E) -> E {
  let c = clamp(x, E(-20.0), E(88.7));
  let n = round(c * 1.44269504);
  let q = expm1_core(c - n * 0.693359375 + n * 2.1219444e-4);
  let half = exp2(n - 1.0);
  let y = half * q + (half - 0.5);
  let big = select(y + y, exp(x), x > E(20.0));
  return select(select(big, x, abs(x) < E(2.98e-8)), x, is_nan(x));
}

fn log_core(f: E, e: E, c: E) -> E {
  var p = E(0.0534793064) * f - 0.109192148;
  p = p * f + 0.121078625;
  p = p * f - 0.125495687;
  p = p * f + 0.142096385;
  p = p * f - 0.16659373;
  p = p * f + 0.200022221;
  p = p * f - 0.250001669;
  p = p * f + 0.333333135;
  let z = f * f;
  let y = f * z * p + (e * -2.1219444e-4 + c) - z * 0.5;
  return (f + y) + e * 0.693359375;
}
fn log_normal(u: E, lifted: E, c: E) -> E {
  let bits = bitcast<I>(u) - I(0x3f3504f3);
  let e = E(bits >> U(23u)) - lifted;
  let m = bitcast<E>((bits & I(0x007fffff)) + I(0x3f3504f3));
  return log_core(m - 1.0, e, c);
}
fn log_edges(x: E, y: E) -> E {
  let inf = bitcast<E>(U(INFINITE));
  let nan = bitcast<E>(U(NOT_A_NUMBER));
  var r = select(x, y, x < inf);
  r = select(r, select(nan, -inf, x == E(0.0)), x <= E(0.0));
  return select(r, x, is_nan(x));
}
fn log_(x: E) -> E {
  let small = x < E(1.17549435e-38);
  return log_edges(x, log_normal(select(x, x * 8388608.0, small), select(E(0.0), E(23.0), small), E(0.0)));
}
fn log1p_(x: E) -> E {
  // Near 0 without 1 + x, whose rounding a compiler would not let be put right: it takes (1 + x) - 1 for x.
  let near = log_core(x, E(0.0), E(0.0));
  return select(log_edges(x + 1.0, log_normal(x + 1.0, E(0.0), E(0.0))), near, (x > E(-0.29)) & (x < E(0.41)));
}

fn tanh_(x: E) -> E {
  let z = abs(x);
  let s = x * x;
  var p = E(-0.0060468479) * s + 0.0209121089;
  p = p * s - 0.0538141355;
  p = p * s + 0.133322313;
  p = p * s - 0.333333075;
  let near = z * s * p + z;
  let e = exp(-2.0 * z);
  let far = 1.0 - (e + e) / (e + 1.0);
  return select(with_sign(select(far, near, z < E(0.58)), x), x, is_nan(x));
}

/** e^(z^2) erfc(z) for 0 <= z <= 10.2. */
fn scaled_erfc(z: E) -> E {
  var p = E(0.0326500908) * z + 0.228582516;
  p = p * z + 0.730335653;
  p = p * z + 1.23727632;
  p = p * z + 1.0;
  var q = E(0.0578700788) * z + 0.405178517;
  q = q * z + 1.32298756;
  q = q * z + 2.39968443;
  q = q * z + 2.3656559;
  q = q * z + 1.0;
  return p / q;
}
fn erf_(x: E) -> E {
  let z = min(abs(x), E(10.2));
  let s = z * z;
  var r = E(7.8069039e-5) * s - 7.9978531e-4;
  r = r * s + 0.00518716220;
  r = r * s - 0.0268533472;
  r = r * s + 0.112835787;
  r = r * s - 0.37612626;
  r = r * s + 0.128379166;
  let near = z + z * r;
  let far = 1.0 - exp(-s) * scaled_erfc(z);
  return select(with_sign(select(far, near, z < E(1.0)), x), x, is_nan(x));
}

/** x less n quarter turns, in [-pi/4, pi/4], for |x| up to some thousands. */
fn turned(x: E, n: E) -> E { return ((x - n * 1.5703125) - n * 4.837512969970703e-4) - n * 7.549789415861596e-8; }
fn sin_near(r: E) -> E {
  let s = r * r;
  return r + r * s * (-0.166666667 + s * (0.00833333333 + s * (-1.98412698e-4 + s * 2.75573192e-6)));
}
fn cos_near(r: E) -> E {
  let s = r * r;
  return 1.0 + s * (-0.5 + s * (0.0416666667 + s * (-0.00138888889 + s * (2.48015873e-5 - s * 2.75573192e-7))));
}
fn sin_(x: E) -> E { return quarter(x, 0); }
fn cos_(x: E) -> E { return quarter(x, 1); }
fn quarter(x: E, ahead: i32) -> E {
  let n = round(x * 0.636619772);
  let r = turned(x, n);
  let k = I(n) + I(ahead);
  let v = select(sin_near(r), cos_near(r), (k & I(1)) == I(1));
  return select(v, -v, (k & I(2)) == I(2));
}

fn power(a: E, b: E) -> E {
  let whole = b == floor(b);
  let odd = whole & (b * 0.5 != floor(b * 0.5));
  let size = exp2(b * log2_(abs(a)));
  var y = select(size, -size, (a < E(0.0)) & odd);
  y = select(y, bitcast<E>(U(NOT_A_NUMBER)), (a < E(0.0)) & !whole & (abs(b) < bitcast<E>(U(INFINITE))));
  y = select(y, a + b, is_nan(a) | is_nan(b));
  return select(y, E(1.0), (b == E(0.0)) | (a == E(1.0)));
}
fn log2_(x: E) -> E { return log_(x) * 1.44269504; }
`;
