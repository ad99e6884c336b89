import type { Tensor } from "../autograd/index.js";
import { isFloating, type NumberArray } from "../base/dtype.js";
import { DTypeError, OptionError, ShapeError } from "../base/errors.js";
import { readOptions, unknownName } from "../base/options.js";
import { globalRandom, type Random } from "../base/random.js";
import { formatShape, numberOfElements } from "../base/shape.js";

// Initialisers by PyTorch's names: each writes its tensor in place, off the tape, and returns it. The trailing `random`
// is the generator to draw from, which is the one that manualSeed seeds unless given.

export type FanMode = "fanIn" | "fanOut";
export type Nonlinearity =
  | "linear"
  | "conv1d"
  | "conv2d"
  | "conv3d"
  | "sigmoid"
  | "tanh"
  | "relu"
  | "leakyRelu"
  | "selu";

function fill(t: Tensor, value: (i: number) => number): Tensor {
  if (!isFloating(t.dtype)) throw new DTypeError({ rule: "Initialisers write float32 or float64", got: t.dtype });
  return t.assign(Float64Array.from({ length: t.size }, (_, i) => value(i)));
}

function checkFinite(owner: string, values: Record<string, number>): void {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isFinite(value)) throw new OptionError({ rule: `${owner} ${name} must be finite`, got: String(value) });
  }
}

export function constant_(t: Tensor, value: number): Tensor {
  return fill(t, () => value);
}

export const zeros_ = (t: Tensor): Tensor => constant_(t, 0);
export const ones_ = (t: Tensor): Tensor => constant_(t, 1);

/** Uniform in [low, high). */
export function uniform_(t: Tensor, low = 0, high = 1, random: Random = globalRandom): Tensor {
  checkFinite("uniform_", { low, high });
  return fill(t, () => low + (high - low) * random.uniform());
}

export function normal_(t: Tensor, mean = 0, std = 1, random: Random = globalRandom): Tensor {
  checkFinite("normal_", { mean, std });
  return fill(t, () => mean + std * random.normal());
}

/** Normal values drawn again until they lie in [low, high]. Throws OptionError if that holds hardly any of them. */
export function truncNormal_(t: Tensor, mean = 0, std = 1, low = -2, high = 2, random: Random = globalRandom): Tensor {
  checkFinite("truncNormal_", { mean, std, low, high });
  // Drawing again ends quickly only if the interval reaches into the four standard deviations around the mean.
  if (!(low < high) || !(std > 0) || low > mean + 2 * std || high < mean - 2 * std) {
    throw new OptionError({
      rule: "truncNormal_ takes std > 0 and low < high, at least one of them within 2 std of the mean",
      got: `mean ${mean}, std ${std}, low ${low}, high ${high}`,
    });
  }
  return fill(t, () => {
    for (;;) {
      const v = mean + std * random.normal();
      if (v >= low && v <= high) return v;
    }
  });
}

/** Ones on the diagonal of a matrix, zeros elsewhere. */
export function eye_(t: Tensor): Tensor {
  if (t.rank !== 2) throw new ShapeError({ rule: "eye_ takes a matrix", got: formatShape(t.shape) });
  const columns = t.shape[1]!;
  return fill(t, (i) => (Math.floor(i / columns) === i % columns ? 1 : 0));
}

/** Inputs and outputs that meet in one weight [out, in, ...kernel]. Throws ShapeError below rank 2. */
export function fans(t: Tensor): { fanIn: number; fanOut: number } {
  if (t.rank < 2) {
    throw new ShapeError({
      rule: "fanIn and fanOut are those of a weight [out, in, ...kernel]",
      got: formatShape(t.shape),
      fix: "Use uniform_, normal_ or constant_ for vectors",
    });
  }
  const area = numberOfElements(t.shape.slice(2));
  return { fanIn: t.shape[1]! * area, fanOut: t.shape[0]! * area };
}

const gains: Record<Nonlinearity, (slope: number) => number> = {
  ...{ linear: () => 1, conv1d: () => 1, conv2d: () => 1, conv3d: () => 1, sigmoid: () => 1 },
  tanh: () => 5 / 3,
  relu: () => Math.SQRT2,
  leakyRelu: (slope) => Math.sqrt(2 / (1 + slope * slope)),
  selu: () => 3 / 4,
};

/** The factor that keeps the variance through a nonlinearity; `param` is leakyRelu's slope. */
export function calculateGain(nonlinearity: Nonlinearity, param = 0.01): number {
  const gain = gains[nonlinearity];
  if (!gain) {
    const known = Object.keys(gains);
    throw unknownName(`calculateGain knows ${known.join(", ")}`, String(nonlinearity), known);
  }
  return gain(param);
}

/** Uniform with variance gain^2 2 / (fanIn + fanOut). Source: Glorot & Bengio 2010. */
export function xavierUniform_(t: Tensor, gain = 1, random: Random = globalRandom): Tensor {
  const { fanIn, fanOut } = fans(t);
  const bound = gain * Math.sqrt(6 / (fanIn + fanOut));
  return uniform_(t, -bound, bound, random);
}

/** Normal with variance gain^2 2 / (fanIn + fanOut). Source: Glorot & Bengio 2010. */
export function xavierNormal_(t: Tensor, gain = 1, random: Random = globalRandom): Tensor {
  const { fanIn, fanOut } = fans(t);
  return normal_(t, 0, gain * Math.sqrt(2 / (fanIn + fanOut)), random);
}

export interface KaimingOptions {
  /** Slope of leakyRelu for negative values. Default 0. */
  readonly a?: number;
  /** Keep the variance of the forward pass ("fanIn", default) or of the backward pass. */
  readonly mode?: FanMode;
  /** Default "leakyRelu". */
  readonly nonlinearity?: Nonlinearity;
}

function kaimingStd(owner: string, t: Tensor, options: KaimingOptions | undefined): number {
  const o = readOptions(owner, options, {
    a: 0,
    mode: "fanIn" as FanMode,
    nonlinearity: "leakyRelu" as Nonlinearity,
  });
  const both = fans(t);
  if (!(o.mode in both)) throw unknownName(`${owner} mode is fanIn or fanOut`, String(o.mode), Object.keys(both));
  return calculateGain(o.nonlinearity, o.a) / Math.sqrt(both[o.mode]);
}

/** Uniform with variance gain^2 / fan. Source: He et al. 2015, arXiv:1502.01852. */
export function kaimingUniform_(t: Tensor, options?: KaimingOptions, random: Random = globalRandom): Tensor {
  const bound = Math.sqrt(3) * kaimingStd("kaimingUniform_", t, options);
  return uniform_(t, -bound, bound, random);
}

/** Normal with variance gain^2 / fan. Source: He et al. 2015, arXiv:1502.01852. */
export function kaimingNormal_(t: Tensor, options?: KaimingOptions, random: Random = globalRandom): Tensor {
  return normal_(t, 0, kaimingStd("kaimingNormal_", t, options), random);
}

/**
 * A matrix [out, rest] with orthonormal rows or columns, whichever are fewer, times gain.
 * Source: Saxe et al. 2014, arXiv:1312.6120; Gram-Schmidt run twice, which is accurate to rounding.
 */
export function orthogonal_(t: Tensor, gain = 1, random: Random = globalRandom): Tensor {
  if (t.rank < 2) {
    throw new ShapeError({ rule: "orthogonal_ takes a tensor of rank 2 or more", got: formatShape(t.shape) });
  }
  const rows = t.shape[0]!;
  const columns = rows === 0 ? 0 : t.size / rows;
  const [count, length] = rows < columns ? [rows, columns] : [columns, rows];
  const vectors: Float64Array[] = [];
  for (let i = 0; i < count; i++) {
    const v = Float64Array.from({ length }, () => random.normal());
    for (let pass = 0; pass < 2; pass++) {
      for (const u of vectors) {
        const share = dot(u, v);
        for (let j = 0; j < length; j++) v[j]! -= share * u[j]!;
      }
      const norm = Math.sqrt(dot(v, v));
      for (let j = 0; j < length; j++) v[j]! /= norm;
    }
    vectors.push(v);
  }
  return fill(t, (i) => {
    const [r, c] = [Math.floor(i / columns), i % columns];
    return gain * (rows < columns ? vectors[r]![c]! : vectors[c]![r]!);
  });
}

function dot(a: NumberArray, b: NumberArray): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** What Linear and convolutions begin with in PyTorch: weight and bias uniform in +-1 / sqrt(fanIn). */
export function defaultWeights(weight: Tensor, bias: Tensor | null): void {
  kaimingUniform_(weight, { a: Math.sqrt(5) });
  if (!bias) return;
  const { fanIn } = fans(weight);
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  uniform_(bias, -bound, bound);
}
