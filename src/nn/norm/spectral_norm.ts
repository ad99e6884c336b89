import { noGrad, Tensor, where } from "../../autograd/index.js";
import { ShapeError } from "../../base/errors.js";
import { checkNonNegative, checkPositiveInteger, readOptions } from "../../base/options.js";
import { globalRandom } from "../../base/random.js";
import { formatShape, normalizeAxis } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import type { Module } from "../module.js";
import { aboutToMove, runningStatsMove } from "./moving_state.js";
import { parametrize, partsOf } from "./parametrize.js";
import { outputAxis } from "./weight_standardization.js";

export interface SpectralNormOptions {
  /** The property that holds the weight. Default "weight". */
  readonly name?: string;
  /** Steps of the power iteration in each training forward. Default 1. */
  readonly nPowerIterations?: number;
  /** Least length that u and v are divided by. Default 1e-12. */
  readonly eps?: number;
  /** The axis that becomes the rows of the matrix. Default 0; 1 for transposed convolutions. */
  readonly dim?: number;
}

const FIRST_ITERATIONS = 15;

/** The weight as a matrix: `dim` down, all other axes across. */
function matrixOf(weight: Tensor, dim: number): Tensor {
  const a = normalizeAxis(dim, weight.rank, "spectralNorm: dim");
  const front = a === 0 ? weight : weight.permute([a, ...weight.shape.flatMap((_, i) => (i === a ? [] : [i]))]);
  return front.reshape([weight.shape[a]!, -1]);
}

/**
 * W / sigma with sigma = u^T W v, u and v constants: for the singular vectors of the largest singular value that is the
 * spectral norm. Differentiable in W, twice too: dW = (dw - <dw, w> u v^T) / sigma.
 * Shapes: W [..., rows on dim, ...], u [rows], v [all the rest]. A sigma of 0, as a zero weight has, divides by 1.
 * Source: Miyato et al. 2018, arXiv:1802.05957.
 */
export function spectralNormalized(weight: Tensor, u: Tensor, v: Tensor, options?: { readonly dim?: number }): Tensor {
  const { dim } = readOptions("F.spectralNorm", options, { dim: 0 });
  return scope(() => {
    const matrix = matrixOf(weight, dim);
    const [rows, columns] = [matrix.shape[0]!, matrix.shape[1]!];
    if (u.rank !== 1 || v.rank !== 1 || u.size !== rows || v.size !== columns) {
      throw new ShapeError({
        rule: `spectralNorm of a weight ${formatShape(weight.shape)} takes u [${rows}] and v [${columns}]`,
        got: `${formatShape(u.shape)} and ${formatShape(v.shape)}`,
      });
    }
    // Copies: the next training forward moves u and v, perhaps before this one's backward.
    const [left, right] = [u, v].map((t) => noGrad(() => t.detach().cast(weight.dtype).mul(1)));
    const sigma = matrix
      .matmul(right!.reshape([columns, 1]))
      .mul(left!.reshape([rows, 1]))
      .sum();
    return weight.div(where(sigma.detach().equal(0), 1, sigma));
  });
}

/** t / max(||t||, eps), computed in float64, and whether that is a direction: 0 for a zero vector, NaN, Inf. */
function unit(t: Tensor, eps: number): { direction: Tensor; good: Tensor } {
  const values = t.reshape([t.size]);
  const size = values.abs().max([0], { keepDim: true }).cast("float64");
  // Squares of what is scaled neither overflow nor vanish.
  const scaled = values.cast("float64").div(where(size.equal(0), 1, size));
  const length = scaled.square().sum([0], { keepDim: true }).sqrt();
  const direction = scaled.mul(size.div(length.mul(size).maximum(eps)));
  return { direction, good: direction.square().sum([0], { keepDim: true }).greater(0) };
}

/** v = W^T u / ||W^T u||, u = W v / ||W v||, as often as asked. A weight without direction leaves u and v alone. */
function powerIteration(weight: Tensor, u: Tensor, v: Tensor, dim: number, iterations: number, eps: number): void {
  scope(() =>
    noGrad(() => {
      const matrix = matrixOf(weight.detach(), dim);
      const column = (t: Tensor) => t.reshape([t.size, 1]).cast(weight.dtype);
      for (let i = 0; i < iterations; i++) {
        const right = unit(matrix.matmul(column(u), { transposeA: true }), eps);
        const left = unit(matrix.matmul(column(right.direction)), eps);
        const good = right.good.mul(left.good);
        for (const state of [u, v]) aboutToMove(state);
        v.assign(where(good, right.direction, v.detach().cast("float64")).cast(v.dtype));
        u.assign(where(good, left.direction, u.detach().cast("float64")).cast(u.dtype));
      }
    }),
  );
}

/**
 * Divides a weight by its spectral norm, so that the layer's matrix has largest singular value 1. The norm is followed
 * by power iteration: 15 steps now, nPowerIterations in each training forward, none in evaluation or under
 * noStatsUpdate. Changes the module in place and returns it. State: weight_orig in the place of weight, and the buffers
 * weight_u and weight_v. `removeParametrization` undoes it.
 */
export function spectralNorm<M extends Module>(module: M, options?: SpectralNormOptions): M {
  const { name, nPowerIterations, eps, dim } = readOptions("spectralNorm", options, {
    ...{ name: "weight", nPowerIterations: 1, eps: 1e-12 },
    dim: outputAxis(module),
  });
  checkPositiveInteger("spectralNorm: nPowerIterations", nPowerIterations);
  checkNonNegative("spectralNorm: eps", eps);
  parametrize("spectralNorm", module, name, (weight) => {
    const rows = weight.shape[normalizeAxis(dim, weight.rank, "spectralNorm: dim")]!;
    const [u, v] = [rows, weight.size / rows].map((n) => {
      const drawn = Tensor.empty([n], weight.dtype);
      drawn.assign(Float64Array.from({ length: n }, () => globalRandom.normal()));
      return scope(() => noGrad(() => drawn.assign(unit(drawn, eps).direction).to(weight.device)));
    });
    powerIteration(weight, u!, v!, dim, FIRST_ITERATIONS, eps);
    const [original, left, right] = [`${name}Orig`, `${name}U`, `${name}V`];
    const parts = partsOf(module);
    return {
      by: "spectralNorm",
      original,
      buffers: { [left]: u!, [right]: v! },
      weight: () => spectralNormalized(parts[original]!, parts[left]!, parts[right]!, { dim }),
      beforeForward() {
        if (!module.training || !runningStatsMove()) return;
        powerIteration(parts[original]!, parts[left]!, parts[right]!, dim, nPowerIterations, eps);
      },
    };
  });
  return module;
}
