// Normalization written out in double, place by place: what the layers are held against.
import { Random } from "../../src/base/random.js";

/** For each element of x: the number of its statistic, and of its gamma and beta. */
export interface Places {
  readonly statistic: Int32Array;
  readonly affine: Int32Array;
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The index along each axis of an element. */
export function indexOf(shape: readonly number[], element: number): number[] {
  const index = new Array<number>(shape.length);
  let rest = element;
  for (let a = shape.length - 1; a >= 0; a--) {
    index[a] = rest % shape[a]!;
    rest = Math.floor(rest / shape[a]!);
  }
  return index;
}

/** Numbers that differ where the texts do. */
function numbered(texts: string[]): Int32Array {
  const known = new Map<string, number>();
  return Int32Array.from(texts, (text) => {
    if (!known.has(text)) known.set(text, known.size);
    return known.get(text)!;
  });
}

export function placesOf(
  shape: readonly number[],
  statistic: (index: number[]) => unknown,
  affine: (index: number[]) => number,
): Places {
  const indices = Array.from({ length: sizeOf(shape) }, (_, i) => indexOf(shape, i));
  return {
    statistic: numbered(indices.map((i) => JSON.stringify(statistic(i)))),
    affine: Int32Array.from(indices.map(affine)),
  };
}

export interface Operands {
  readonly x: Float32Array;
  readonly dy: Float32Array;
  readonly gamma: Float32Array;
  readonly beta: Float32Array;
}

/** Operands with values of `mean` and a standard deviation of 1. */
export function draw(shape: readonly number[], weights: number, seed: number, mean = 0.5): Operands {
  const random = new Random(seed);
  const of = (n: number, value: () => number) => Float32Array.from({ length: n }, value);
  return {
    x: of(sizeOf(shape), () => mean + random.normal()),
    dy: of(sizeOf(shape), () => random.normal()),
    gamma: of(weights, () => 1 + 0.3 * random.normal()),
    beta: of(weights, () => random.normal()),
  };
}

export interface ByHand {
  readonly y: Float64Array;
  readonly dx: Float64Array;
  readonly dgamma: Float64Array;
  readonly dbeta: Float64Array;
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

interface Rules {
  readonly eps: number;
  /** False: root mean square. */
  readonly centred?: boolean;
  /** Elements that count in the statistics; all without it. */
  readonly counts?: (element: number) => boolean;
  /** Statistics to use instead. */
  readonly given?: { readonly mean: ArrayLike<number>; readonly variance: ArrayLike<number> };
}

export function byHand({ x, dy, gamma, beta }: Operands, { statistic, affine }: Places, rules: Rules): ByHand {
  const { eps, centred = true, counts = () => true, given } = rules;
  const groups = 1 + statistic.reduce((a, b) => Math.max(a, b), 0);
  const sums = (value: (i: number) => number): Float64Array => {
    const out = new Float64Array(groups);
    for (let i = 0; i < x.length; i++) out[statistic[i]!]! += value(i);
    return out;
  };
  const n = sums((i) => (counts(i) ? 1 : 0));
  const perGroup = (total: Float64Array) => total.map((v, g) => v / n[g]!);
  const own = (value: (i: number) => number) => perGroup(sums((i) => (counts(i) ? value(i) : 0)));
  const mean = given ? Float64Array.from(given.mean) : centred ? own((i) => x[i]!) : new Float64Array(groups);
  const variance = given ? Float64Array.from(given.variance) : own((i) => (x[i]! - mean[statistic[i]!]!) ** 2);
  const rho = variance.map((v) => 1 / Math.sqrt(v + eps));
  const xhat = Float64Array.from(x, (v, i) => (v - mean[statistic[i]!]!) * rho[statistic[i]!]!);
  const g = Float64Array.from(dy, (v, i) => v * gamma[affine[i]!]!);
  // The statistics depend on the elements that count; the gradient to them gathers from all.
  const [meanG, meanGX] = [perGroup(sums((i) => g[i]!)), perGroup(sums((i) => g[i]! * xhat[i]!))];
  const dx = Float64Array.from(g, (v, i) => {
    const s = statistic[i]!;
    const own = counts(i) && !given ? (centred ? meanG[s]! : 0) + xhat[i]! * meanGX[s]! : 0;
    return rho[s]! * (v - own);
  });
  const [dgamma, dbeta] = [new Float64Array(gamma.length), new Float64Array(beta.length)];
  for (let i = 0; i < x.length; i++) {
    dgamma[affine[i]!]! += dy[i]! * xhat[i]!;
    dbeta[affine[i]!]! += dy[i]!;
  }
  const y = xhat.map((v, i) => v * gamma[affine[i]!]! + beta[affine[i]!]!);
  return { y, dx, dgamma, dbeta, mean, variance };
}

/** Largest difference, relative to the largest value. */
export function error(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [largest, difference] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    largest = Math.max(largest, Math.abs(want[i]!));
    const d = Math.abs(got[i]! - want[i]!);
    if (!(d <= difference)) difference = Number.isNaN(d) ? Number.POSITIVE_INFINITY : d;
  }
  return difference / Math.max(largest, 1e-30);
}
