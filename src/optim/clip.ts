import type { Tensor } from "../autograd/index.js";
import { StateError } from "../base/errors.js";
import { checkNonNegative } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { Storage } from "../memory/storage.js";

/**
 * Scales all gradients together so that their joint 2-norm is at most `maxNorm`, and returns the norm they had.
 * Throws StateError when the norm is not finite (clipping would turn every gradient into NaN).
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number {
  checkNonNegative("maxNorm", maxNorm);
  const grads = [...parameters].flatMap((p) => (p.grad ? [p.grad] : []));
  let total = 0;
  for (const g of grads) {
    const squares = new Storage(1, g.dtype);
    kernels.reduce("sumSquares", g.storage, squares, { outer: 1, reduce: g.size, inner: 1 });
    total += squares.view[0]!;
    squares.release();
  }
  const norm = Math.sqrt(total);
  if (!Number.isFinite(norm)) {
    throw new StateError({
      rule: "Gradients can be clipped when their norm is finite",
      got: String(norm),
      fix: "Lower the learning rate, or look for the layer whose output overflows",
    });
  }
  // PyTorch divides by norm + 1e-6 as well, and never scales up.
  const scale = maxNorm / (norm + 1e-6);
  if (scale < 1) {
    for (const g of grads) {
      const factor = new Storage(1, g.dtype);
      factor.view[0] = scale;
      const plan = { shape: [g.size], aStrides: [1], bStrides: [0] };
      kernels.binary("mul", g.storage, factor, g.storage, plan);
      factor.release();
    }
  }
  return norm;
}
