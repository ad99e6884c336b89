import { type DType, isFloating, mixable } from "../../base/dtype.js";
import { DTypeError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape, sameShape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { NormActivation, RowStats, Stats } from "../../kernels/kernel_set.js";
import { type NormCase, statisticCount } from "../../norm/views.js";
import { isRecording } from "../graph.js";
import { defineOp, type Needs, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { normGradients } from "./norm_definition.js";

export type NormInputs = { x: Tensor; weight: Tensor | null; bias: Tensor | null };

/** Mean and biased variance of each statistic group; null mean: no centring, and variance holds the mean of squares. */
export type NormStatistics = { mean: Tensor | null; variance: Tensor };

export interface NormOptions {
  /** Which kernel, and x as it sees it. */
  readonly on: NormCase;
  readonly eps: number;
  /** Shape of weight and bias. */
  readonly affineShape: Shape;
  /** False: divides by the root mean square and subtracts nothing. Rows only. */
  readonly centred?: boolean;
  /** Statistics to use instead of x's own; constants in backward. Columns only. */
  readonly given?: { readonly mean: Tensor; readonly variance: Tensor };
  /** An activation that y goes through in the same pass. */
  readonly activation?: NormActivation | null;
  /** y and statistics where another kernel has written them already; the caller disposes its handles. */
  readonly computed?: { readonly y: Tensor; readonly statistics: NormStatistics };
}

export type Saved = NormInputs & { mean: Tensor | null; variance: Tensor };
type NormTensors = { dx: Tensor | null; dWeight: Tensor | null; dBias: Tensor | null };
type NormOp = Op<NormInputs, NormOptions, NormStatistics>;

/**
 * The one op behind every normalization of this folder, under the name each gives it:
 * y = weight * xhat + bias, xhat = (x - mu) * rho, rho = 1 / sqrt(var + eps), on a row or a column view of x.
 * Backward, with g = weight * dy and <.> the mean over a statistic group:
 *   dx = rho * (g - <g> - xhat * <g * xhat>); without centring <g> is absent; with given statistics dx = rho * g.
 *   dweight = sum of dy * xhat, dbias = sum of dy, over all elements that share the weight.
 * With an activation y = f(z), z = weight * xhat + bias, dz = f'(z) * dy stands in the place of dy.
 *
 * Shapes: x and y alike; weight and bias as the caller says; statistics are flat, float64.
 * Units:  xhat has none, so y, weight and bias share theirs; eps has the units of x squared.
 * Saves:  x, weight, mu, var. xhat is recomputed: it is as large as x, mu and var are a few numbers a group. They stay
 *         float64: mu rounded to float32 costs 1e-4 of y where |mu| is 1e4 standard deviations. With an activation the
 *         bias too, from which z is recomputed.
 * Types:  y and dx have x's; weight and bias may be float32 beside an x of float16 (and the other way round), and so are their
 *         gradients. Whatever x is stored as, everything between is float32, statistics more.
 * Throws: DTypeError if x is not of a floating type, or weight or bias has another type; ShapeError if one of those is not
 *         of `affineShape`.
 */
export function defineNorm(name: string): NormOp {
  return defineOp<NormInputs, NormOptions, Saved, NormStatistics>({
    name,
    forward({ x, weight, bias }, { on, eps, affineShape, centred = true, given, activation = null, computed }) {
      checkInputs(name, { x, weight, bias }, affineShape, mixable);
      // A bias alone is kept for its type.
      const saved = { x, weight, bias: activation || !weight ? bias : null };
      if (computed) {
        const { y, statistics } = computed;
        return { out: y.detach(), saved: { ...saved, ...statistics }, extra: statistics };
      }
      const out = Tensor.empty(x.shape, x.dtype);
      const fresh = () => Tensor.empty([statisticCount(on)], "float64");
      const mean = given ? given.mean : centred ? fresh() : null;
      const variance = given ? given.variance : fresh();
      if (x.size > 0) {
        const slots = [x.storage, weight?.storage ?? null, bias?.storage ?? null, out.storage] as const;
        const stats = slotsOf({ mean, variance });
        if (on.kernel === "row") kernels.rowNorm(...slots, stats, on.view, eps, activation);
        else if (given) kernels.columnNormEval(...slots, stats as Stats, on.view, eps, activation);
        else kernels.columnNorm(...slots, stats as Stats, on.view, eps, activation);
      }
      return { out, saved: { ...saved, mean, variance }, extra: { mean, variance } };
    },
    backward(dy, saved, options, needs) {
      if (isRecording()) {
        // Under createGraph the same formula in differentiable ops, so that it can be differentiated again; with given
        // statistics as the tape holds them, since the caller's own handles may be gone by now.
        const { mean, variance } = saved;
        const given = options.given && mean ? { given: { mean, variance } } : {};
        return normGradients(dy, saved, { ...options, ...given });
      }
      let made: NormTensors | undefined;
      const all = () => (made ??= fusedGradients(dy, saved, options, needs));
      return { x: () => all().dx!, weight: () => all().dWeight!, bias: () => all().dBias! };
    },
    twiceDifferentiable: true,
  });
}

/** Every gradient that is asked for, in one pass of the kernel. */
export function fusedGradients(dy: Tensor, saved: Saved, options: NormOptions, needs: Needs<NormInputs>): NormTensors {
  const { x, weight, bias, mean, variance } = saved;
  const { on, eps, affineShape, given } = options;
  const activation = options.activation ? { ...options.activation, bias: bias?.storage ?? null } : null;
  const made = {
    dx: needs.x ? Tensor.empty(x.shape, x.dtype) : null,
    dWeight: needs.weight ? Tensor.empty(affineShape, weight!.dtype) : null,
    dBias: needs.bias ? Tensor.empty(affineShape, (weight ?? bias!).dtype) : null,
  };
  const grads = {
    dx: made.dx?.storage ?? null,
    dWeight: made.dWeight?.storage ?? null,
    dBias: made.dBias?.storage ?? null,
  };
  if (x.size === 0) {
    for (const slot of Object.values(grads)) if (slot) kernels.fill(slot, 0);
    return made;
  }
  const slots = [x.storage, dy.storage, weight?.storage ?? null] as const;
  const stats = slotsOf({ mean, variance });
  if (on.kernel === "row") kernels.rowNormGrad(...slots, stats, grads, on.view, eps, activation);
  else kernels.columnNormGrad(...slots, stats as Stats, grads, on.view, eps, given !== undefined, activation);
  return made;
}

const slotsOf = ({ mean, variance }: NormStatistics): RowStats => ({
  mean: mean?.storage ?? null,
  variance: variance.storage,
});

/** What a normalization multiplies or adds must be of a type that `fits` x's, all of one, and of `shape` where one is given. */
export function checkInputs(
  name: string,
  { x, ...affine }: { readonly x: Tensor; readonly [name: string]: Tensor | null },
  shape?: Shape,
  fits: (a: DType, b: DType) => boolean = (a, b) => a === b,
): void {
  if (!isFloating(x.dtype)) {
    throw new DTypeError({ rule: `${name} takes float32 or float64`, got: x.dtype, fix: 'Use x.to("float32")' });
  }
  const type = Object.values(affine).find((t) => t !== null)?.dtype;
  for (const [what, t] of Object.entries(affine)) {
    if (t && !(fits(t.dtype, x.dtype) && t.dtype === type)) {
      throw new DTypeError({
        rule: `${name} takes x and ${what} of one type`,
        got: `x of ${x.dtype} and ${what} of ${t.dtype}`,
        fix: `Make the layer with { dtype: "${x.dtype}" }, or use x.to("${t.dtype}")`,
      });
    }
    if (t && shape && !sameShape(t.shape, shape)) {
      throw new ShapeError({
        rule: `${name} takes ${what} of shape ${formatShape(shape)} for x of shape ${formatShape(x.shape)}`,
        got: formatShape(t.shape),
      });
    }
  }
}
