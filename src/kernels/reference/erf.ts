const TWO_OVER_SQRT_PI = 1.1283791670955126;

/**
 * The error function in double precision. Up to 2 by its series with e^(-x^2) taken out, whose terms are all positive
 * (Abramowitz & Stegun 7.1.6), so that nothing cancels; from there as 1 - erfc.
 */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (!(z < 2)) return z > 6 ? Math.sign(x) : Math.sign(x) * (1 - erfcTail(z));
  const s = 2 * x * x;
  let term = x;
  let sum = x;
  for (let odd = 3; Math.abs(term) > 1e-17 * Math.abs(sum); odd += 2) {
    term *= s / odd;
    sum += term;
  }
  return TWO_OVER_SQRT_PI * Math.exp(-x * x) * sum;
}

/** 1 - erf(x), with a small relative error where it is small. */
export function erfc(x: number): number {
  return x >= 2 ? erfcTail(x) : 1 - erf(x);
}

/** e^(-z^2) / sqrt(pi) / (z + (1/2) / (z + 1 / (z + (3/2) / (z + ...)))) for z >= 2 (A&S 7.1.14), from its end inwards. */
function erfcTail(z: number): number {
  if (z > 27.3) return 0;
  let below = z;
  for (let n = 100; n > 0; n--) below = z + n / 2 / below;
  return (Math.exp(-z * z) * (TWO_OVER_SQRT_PI / 2)) / below;
}
