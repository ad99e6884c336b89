/**
 * What a set of numbers contributes to a statistic. M2 is the sum of squared distances from the mean: unlike a sum of
 * squares it loses nothing when the mean is large, and unlike a variance it can be merged.
 */
export interface Moments {
  readonly count: number;
  readonly mean: number;
  readonly m2: number;
}

export const noMoments: Moments = { count: 0, mean: 0, m2: 0 };

/** Two passes: the mean first, then distances from it. */
export function momentsOf(values: Iterable<number> & { readonly length: number }): Moments {
  const count = values.length;
  if (count === 0) return noMoments;
  let sum = 0;
  for (const v of values) sum += v;
  const mean = sum / count;
  let m2 = 0;
  let rest = 0;
  for (const v of values) {
    const d = v - mean;
    m2 += d * d;
    rest += d;
  }
  // The rounding of `mean` left `rest` instead of 0; both sums are corrected for it.
  return { count, mean: mean + rest / count, m2: m2 - (rest * rest) / count };
}

/** The moments of the union of two sets: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance". */
export function mergeMoments(a: Moments, b: Moments): Moments {
  if (a.count === 0) return b;
  if (b.count === 0) return a;
  const count = a.count + b.count;
  const delta = b.mean - a.mean;
  const share = b.count / count;
  return { count, mean: a.mean + delta * share, m2: a.m2 + b.m2 + delta * delta * a.count * share };
}

/** Moments of many statistics that were taken from as many numbers each. */
export interface MomentColumns {
  readonly count: number;
  readonly mean: Float64Array;
  readonly m2: Float64Array;
}

/** The same for many statistics, of any number of sets one after the other: columns of `length` statistics each. */
export function mergeColumns(sets: readonly MomentColumns[], length: number): MomentColumns {
  const [mean, m2] = [new Float64Array(length), new Float64Array(length)];
  let count = 0;
  for (const set of sets) {
    if (set.count === 0) continue;
    const total = count + set.count;
    const share = set.count / total;
    const weight = count * share;
    for (let c = 0; c < length; c++) {
      const delta = set.mean[c]! - mean[c]!;
      mean[c] = count === 0 ? set.mean[c]! : mean[c]! + delta * share;
      m2[c] = count === 0 ? set.m2[c]! : m2[c]! + set.m2[c]! + delta * delta * weight;
    }
    count = total;
  }
  return { count, mean, m2 };
}

/** Which divisor a variance has: n, or n - 1. */
export type VarianceConvention = "biased" | "unbiased";

/** M2 / n: what normalization divides by. NaN for no numbers. */
export const biasedVariance = ({ count, m2 }: Moments): number => m2 / count;

/** M2 / (n - 1): what running statistics keep. NaN for fewer than two numbers. */
export const unbiasedVariance = ({ count, m2 }: Moments): number => (count < 2 ? Number.NaN : m2 / (count - 1));

/** n / (n - 1): turns a biased variance of n numbers into an unbiased one. */
export const besselFactor = (count: number): number => (count < 2 ? Number.NaN : count / (count - 1));
