import type { NumberArray } from "../base/dtype.js";
import { checkNumber, readOptions } from "../base/options.js";
import { Random } from "../base/random.js";
import type { Dataset } from "./dataset.js";

export interface SplitOptions {
  /** Share of the samples that go to `test`, in [0, 1). Default 0.2. */
  readonly testFraction?: number;
  /** Equal seeds give equal splits, on every machine. Default 0. */
  readonly seed?: number;
}

export const splitDefaults: Required<SplitOptions> = { testFraction: 0.2, seed: 0 };

/**
 * Cuts a dataset in two so that each class has the same share of both parts. Within a part the samples keep their order.
 * `test` gets testFraction * length samples, rounded up; each class gives its share of them, rounded down, and the
 * classes with the largest remainders give one more.
 * Throws: OptionError for a fraction outside [0, 1), a seed that is no whole number, or an unknown option.
 */
export function stratifiedSplit<X extends NumberArray, Y extends NumberArray>(
  dataset: Dataset<X, Y>,
  options?: SplitOptions,
): { train: Dataset<X, Y>; test: Dataset<X, Y> } {
  const { testFraction, seed } = readOptions("stratifiedSplit", options, splitDefaults);
  checkNumber("testFraction", testFraction, "a number in [0, 1)", (v) => v >= 0 && v < 1);
  checkSeed(seed);
  const members = new Map<number, number[]>();
  for (let i = 0; i < dataset.length; i++) {
    const label = dataset.labels[i]!;
    const list = members.get(label);
    if (list) list.push(i);
    else members.set(label, [i]);
  }
  const classes = [...members.keys()].sort((a, b) => a - b);
  const sizes = classes.map((c) => members.get(c)!.length);
  const shares = apportion(ceilOfProduct(testFraction, dataset.length), sizes);
  const random = new Random(seed);
  const inTest = new Uint8Array(dataset.length);
  classes.forEach((c, k) => {
    const list = members.get(c)!;
    for (const place of random.permutation(list.length).subarray(0, shares[k])) inTest[list[place]!] = 1;
  });
  const numbers = Array.from(inTest.keys());
  return {
    train: dataset.subset(numbers.filter((i) => !inTest[i])),
    test: dataset.subset(numbers.filter((i) => inTest[i])),
  };
}

/** Whole parts of `total` in proportion to `sizes`: shares rounded down, the rest to the largest remainders. */
function apportion(total: number, sizes: readonly number[]): number[] {
  const all = sizes.reduce((sum, size) => sum + size, 0);
  // total * size stays a whole number, so remainders that are equal compare as equal.
  const shares = sizes.map((size) => Math.floor((total * size) / all));
  const remainders = sizes.map((size) => (total * size) % all);
  const order = sizes.map((_, k) => k).sort((a, b) => remainders[b]! - remainders[a]! || a - b);
  const left = total - shares.reduce((sum, share) => sum + share, 0);
  for (const k of order.slice(0, left)) shares[k]!++;
  return shares;
}

/** 0.2 * 35 is 7.000000000000001 in double precision; a fraction meant as 1/5 must not round up to 8. */
const ceilOfProduct = (fraction: number, n: number): number => Math.ceil(fraction * n * (1 - 1e-12));

export const checkSeed = (seed: unknown): number => checkNumber("seed", seed, "a whole number", Number.isSafeInteger);
