import { Tensor } from "../autograd/index.js";
import { StateError } from "../base/errors.js";
import { checkNonNegative, checkNumber } from "../base/options.js";
import { kernels } from "../kernels/dispatch.js";
import { everyTime } from "../kernels/tape.js";
import { onDevice } from "../memory/device.js";
import { scope } from "../memory/scope.js";

/**
 * Scales all gradients together so that their joint 2-norm is at most `maxNorm`, and returns the norm they had.
 * Throws StateError when the norm is not finite (clipping would turn every gradient into NaN), DeviceError for gradients on another
 * device than the CPU, whose norm has to be waited for: `clipGradNormAsync`. In a captured function it clips each time, but
 * what it returns stays the norm of the capture.
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number {
  checkNonNegative("maxNorm", maxNorm);
  const list = [...parameters];
  let norm = 0;
  everyTime(() => {
    scope(() => {
      const groups = gradientsOf(list);
      norm = jointNorm(groups.map((grads) => squaresOf(grads).storage.view));
      scaleAll(groups, maxNorm, norm);
    });
  });
  return norm;
}

/** The same for gradients on any device: only their norm is waited for. */
export async function clipGradNormAsync(parameters: Iterable<Tensor>, maxNorm: number): Promise<number> {
  checkNonNegative("maxNorm", maxNorm);
  const groups = gradientsOf([...parameters]);
  const squares = scope(() => groups.map(squaresOf));
  const norm = jointNorm(await Promise.all(squares.map((t) => t.data())));
  for (const t of squares) t.dispose();
  scaleAll(groups, maxNorm, norm);
  return norm;
}

/**
 * Multiplies all gradients by `factor`: what takes back the factor that a loss was multiplied by so that its gradients stay
 * within the range of float16.
 */
export function scaleGradients(parameters: Iterable<Tensor>, factor: number): void {
  checkNumber("factor", factor, "a finite number", Number.isFinite);
  const list = [...parameters];
  everyTime(() => {
    for (const grads of gradientsOf(list)) scaleBy(grads, factor);
  });
}

/** Gradients, in lists of one type on one device each. */
function gradientsOf(parameters: readonly Tensor[]): Tensor[][] {
  const groups = new Map<string, Tensor[]>();
  for (const { grad } of parameters) {
    if (!grad) continue;
    const key = `${grad.dtype} ${grad.device}`;
    const group = groups.get(key);
    if (group) group.push(grad);
    else groups.set(key, [grad]);
  }
  return [...groups.values()];
}

/** The sum of squares of each gradient. */
function squaresOf(grads: readonly Tensor[]): Tensor {
  const { dtype, device } = grads[0]!;
  return onDevice(device, () => {
    const squares = Tensor.empty([grads.length], dtype);
    kernels.sumSquaresOf(
      grads.map((g) => g.storage),
      squares.storage,
    );
    return squares;
  });
}

function jointNorm(squares: readonly ArrayLike<number>[]): number {
  let total = 0;
  for (const sums of squares) for (let i = 0; i < sums.length; i++) total += sums[i]!;
  const norm = Math.sqrt(total);
  if (Number.isFinite(norm)) return norm;
  throw new StateError({
    rule: "Gradients can be clipped when their norm is finite",
    got: String(norm),
    fix: "Lower the learning rate, or look for the layer whose output overflows",
  });
}

/** PyTorch divides by norm + 1e-6 as well, and never scales up. */
function scaleAll(groups: readonly Tensor[][], maxNorm: number, norm: number): void {
  const scale = maxNorm / (norm + 1e-6);
  if (scale >= 1) return;
  for (const grads of groups) scaleBy(grads, scale);
}

function scaleBy(grads: readonly Tensor[], factor: number): void {
  const slots = grads.map((g) => g.storage);
  onDevice(grads[0]!.device, () => kernels.scaleOf(slots, factor));
}
