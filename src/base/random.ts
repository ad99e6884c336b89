import { FormatError } from "./errors.js";

/** Plain numbers, so that a checkpoint can hold it as JSON. */
export interface RandomState {
  readonly words: readonly [number, number, number, number];
  readonly spare: number | null;
}

/**
 * Seeded random numbers: xoshiro128** (Blackman & Vigna 2021), seeded by splitmix32.
 * Normal values come by Marsaglia's polar method, which needs log and sqrt only:
 * sin and cos differ in the last bit between versions of V8, and equal seeds must give equal bits everywhere.
 */
export class Random {
  private s0 = 0;
  private s1 = 0;
  private s2 = 0;
  private s3 = 0;
  private spare: number | null = null;

  constructor(seed = 0) {
    this.seed(seed);
  }

  seed(seed: number): void {
    let z = (seed ^ Math.floor(seed / 2 ** 32)) | 0;
    const next = () => {
      z = (z + 0x9e3779b9) | 0;
      let t = z ^ (z >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      return t ^ (t >>> 15);
    };
    this.s0 = next();
    this.s1 = next();
    this.s2 = next();
    this.s3 = next() | 1; // the all-zero state is the one that never moves
    this.spare = null;
  }

  /** 32 random bits as an unsigned whole number. */
  bits(): number {
    const m = Math.imul(this.s1, 5);
    const result = Math.imul((m << 7) | (m >>> 25), 9);
    const t = this.s1 << 9;
    this.s2 ^= this.s0;
    this.s3 ^= this.s1;
    this.s1 ^= this.s2;
    this.s0 ^= this.s3;
    this.s2 ^= t;
    this.s3 = (this.s3 << 11) | (this.s3 >>> 21);
    return result >>> 0;
  }

  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number {
    return ((this.bits() >>> 5) * 67108864 + (this.bits() >>> 6)) / 9007199254740992;
  }

  /** Normal with mean 0 and standard deviation 1. */
  normal(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const s = u * u + v * v;
      if (s > 0 && s < 1) {
        const f = Math.sqrt((-2 * Math.log(s)) / s);
        this.spare = v * f;
        return u * f;
      }
    }
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** 0 .. n-1 in random order (Fisher-Yates). */
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = order[i]!;
      order[i] = order[j]!;
      order[j] = held;
    }
    return order;
  }

  get state(): RandomState {
    return { words: [this.s0, this.s1, this.s2, this.s3], spare: this.spare };
  }

  set state(state: RandomState) {
    const { words, spare } = state;
    if (!Array.isArray(words) || words.length !== 4 || !words.every((w) => Number.isInteger(w))) {
      throw new FormatError({ rule: "A random state holds four 32-bit words", got: JSON.stringify(state) });
    }
    [this.s0, this.s1, this.s2, this.s3] = words as [number, number, number, number];
    this.spare = spare;
  }
}

/** The generator behind randn, initialisers, dropout and shuffles that are given none of their own. */
export const globalRandom = new Random(0);

/** Seeds everything random in Evenkeel; equal seeds give equal bits. */
export function manualSeed(seed: number): void {
  globalRandom.seed(seed);
}
