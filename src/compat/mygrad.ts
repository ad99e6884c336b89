// mygrad.nnet.batchnorm: a differentiable function over all axes but 1, without state.
import { type NestedArray, noGrad, Tensor, tensor } from "../autograd/index.js";
import { batchNorm } from "../autograd/ops/batch_norm.js";
import { type DType, isFloating, type NumberArray } from "../base/dtype.js";
import { OptionError, ShapeError } from "../base/errors.js";
import { checkBoolean, checkNonNegative, readOptions } from "../base/options.js";
import { formatShape } from "../base/shape.js";
import { scope } from "../memory/scope.js";

/** A tensor, or numbers to make a constant of: nested arrays, or a typed array. */
export type ArrayLike = Tensor | NestedArray | NumberArray;

export interface BatchnormOptions {
  /** A small number of at least 0. */
  readonly eps: number;
  /** [C], by which the normalized values are multiplied. null: none. */
  readonly gamma?: ArrayLike | null;
  /** [C], added at the end. null: none. */
  readonly beta?: ArrayLike | null;
  /** True: the result has no gradient. Default: it has one if an input does. */
  readonly constant?: boolean | null;
}

/** The function as an object that keeps the statistics of its last call. */
export class BatchNorm {
  /** [C], of x's type: the means of the last call's input. */
  mean: Tensor | null = null;
  /** [C]: its variances, M2 / n. */
  var: Tensor | null = null;

  /** As `batchnorm`. */
  call(x: ArrayLike, options: BatchnormOptions): Tensor {
    const o = readOptions("batchnorm", options, {
      gamma: null as ArrayLike | null,
      beta: null as ArrayLike | null,
      eps: undefined as number | undefined,
      constant: null as boolean | null,
    });
    if (o.eps === undefined) {
      throw new OptionError({
        rule: "batchnorm needs eps, a number of at least 0",
        got: "none",
        fix: "Pass { eps: 1e-5 }",
      });
    }
    const eps = checkNonNegative("batchnorm: eps", o.eps);
    const constant = o.constant !== null && checkBoolean("batchnorm: constant", o.constant);
    const [out, mean, variance] = scope(() => {
      const data = asTensor(x);
      if (data.rank < 2) {
        throw new ShapeError({
          rule: "batchnorm takes x of shape [N, C, ...]",
          got: formatShape(data.shape),
          fix: "Give a vector a second axis: x.reshape([-1, 1])",
        });
      }
      const inputs = { x: data, weight: affine(o.gamma, data.dtype), bias: affine(o.beta, data.dtype) };
      const run = () => batchNorm(inputs, { axis: 1, eps, allowLone: true });
      const { out, extra } = constant ? noGrad(run) : run();
      return [out, extra.mean!.cast(data.dtype), extra.variance.cast(data.dtype)];
    }) as [Tensor, Tensor, Tensor];
    this.mean = mean;
    this.var = variance;
    return out;
  }
}

/**
 * gamma * (x - E[x]) / sqrt(Var[x] + eps) + beta, with mean and biased variance over all axes of x but axis 1. A channel
 * of one value has variance 0: it comes out as beta, or as NaN where eps is 0 too.
 *
 * Throws: OptionError without eps; ShapeError unless x is [N, C, ...] with N > 0, and gamma and beta [C].
 */
export const batchnorm = (x: ArrayLike, options: BatchnormOptions): Tensor => new BatchNorm().call(x, options);

/** Plain numbers become float64, as NumPy's do, or the type that `dtype` says. */
function asTensor(value: ArrayLike, dtype?: DType): Tensor {
  if (value instanceof Tensor) return value;
  const kept = value instanceof Float32Array ? "float32" : "float64";
  return tensor(value as NestedArray, { dtype: dtype ?? kept });
}

/** gamma or beta; empty stands for none, as in the original. */
function affine(value: ArrayLike | null, dtype: DType): Tensor | null {
  if (value === null) return null;
  const t = asTensor(value, isFloating(dtype) ? dtype : undefined);
  return t.size === 0 ? null : t;
}
