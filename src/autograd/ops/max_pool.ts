import { numberOfElements, type Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { PoolPlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { batched, type PerAxis, type PoolOptions, poolPlan, unbatched } from "./windows.js";

interface MaxPooling {
  readonly plan: PoolPlan;
  readonly from: Shape;
  readonly to: Shape;
}

/**
 * Largest element of each window; at a tie the first one, NaN before all.
 *
 * Shapes: x [N, C, ...S], y [N, C, ...T].
 * Saves:  the int32 position of each winner, as large as y: x itself is not needed to go back.
 */
const maxPoolOp = defineOp<{ x: Tensor }, MaxPooling, { index: Tensor }>({
  name: "max_pool",
  forward({ x }, { plan, to }) {
    const out = Tensor.empty(to, x.dtype);
    const index = Tensor.empty(to, "int32");
    kernels.maxPool(x.storage, out.storage, index.storage, plan);
    return { out, saved: { index } };
  },
  backward: (dy, { index }, pooling) => ({ x: () => maxPoolGrad({ dy, index }, pooling) }),
  twiceDifferentiable: true,
});

/** dy sent to the winners, zeros elsewhere: linear in dy, so that its own gradient picks the winners out again. */
const maxPoolGrad: Op<{ dy: Tensor; index: Tensor }, MaxPooling, undefined> = defineOp<
  { dy: Tensor; index: Tensor },
  MaxPooling,
  { index: Tensor }
>({
  name: "max_pool_grad",
  forward({ dy, index }, { plan, from }) {
    const out = Tensor.empty(from, dy.dtype);
    kernels.maxPoolGrad(dy.storage, index.storage, out.storage, plan);
    return { out, saved: { index } };
  },
  backward: (g, { index }, pooling) => ({ dy: () => pickWinners({ x: g, index }, pooling) }),
  twiceDifferentiable: true,
});

/** y[i] = x at index[i]. Saves index. */
const pickWinners: Op<{ x: Tensor; index: Tensor }, MaxPooling, undefined> = defineOp<
  { x: Tensor; index: Tensor },
  MaxPooling,
  { index: Tensor }
>({
  name: "max_pool_pick",
  forward({ x, index }, { plan, to }) {
    const out = Tensor.empty(to, x.dtype);
    const [xs, at, ys] = [x.storage.view, index.storage.view, out.storage.view];
    const [plane, windows] = [numberOfElements(plan.input), numberOfElements(plan.output)];
    // A window that holds padding alone has no winner (-1).
    for (let i = 0; i < ys.length; i++) ys[i] = at[i]! < 0 ? 0 : xs[Math.floor(i / windows) * plane + at[i]!]!;
    return { out, saved: { index } };
  },
  backward: (g, { index }, pooling) => ({ x: () => maxPoolGrad({ dy: g, index }, pooling) }),
  twiceDifferentiable: true,
});

/**
 * Max pooling over the last `axes` axes of [N, C, ...S] or [C, ...S].
 * Throws ShapeError for another rank or a window that does not fit, OptionError for options out of range.
 */
export function maxPool(x: Tensor, kernelSize: PerAxis, axes: number, options: PoolOptions = {}): Tensor {
  const owner = `maxPool${axes}d`;
  const { x: input, single } = batched(owner, x, axes);
  const { plan, shape } = poolPlan(owner, input, kernelSize, axes, options);
  return unbatched(maxPoolOp({ x: input }, { plan, from: input.shape, to: shape }), single);
}
