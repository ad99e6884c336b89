import type { Tensor } from "../autograd/index.js";
import { StateError } from "../base/errors.js";
import { checkNonNegative } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { everyTime } from "../kernels/tape.js";
import { Storage } from "../memory/storage.js";

/**
 * Scales all gradients together so that their joint 2-norm is at most `maxNorm`, and returns the norm they had.
 * Throws StateError when the norm is not finite (clipping would turn every gradient into NaN). In a captured function it clips
 * each time, but what it returns stays the norm of the capture.
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number {
  checkNonNegative("maxNorm", maxNorm);
  const list = [...parameters];
  let norm = 0;
  everyTime(() => {
    norm = clip(list, maxNorm);
  });
  return norm;
}

function clip(parameters: readonly Tensor[], maxNorm: number): number {
  const grads = parameters.flatMap((p) => (p.grad ? [p.grad] : []));
  const byType = [...new Set(grads.map((g) => g.dtype))].map((dtype) => ({
    dtype,
    slots: grads.filter((g) => g.dtype === dtype).map((g) => g.storage),
  }));
  let total = 0;
  for (const { dtype, slots } of byType) {
    const squares = new Storage(slots.length, dtype);
    kernels.sumSquaresOf(slots, squares);
    for (const sum of squares.view) total += sum;
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
  if (scale < 1) for (const { slots } of byType) kernels.scaleOf(slots, scale);
  return norm;
}
