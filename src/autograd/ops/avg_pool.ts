import type { Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { PoolPlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { batched, type PerAxis, type PoolOptions, poolPlan, unbatched } from "./windows.js";

export interface AvgPoolOptions extends Omit<PoolOptions, "dilation"> {
  /** Whether padding counts among the elements that the sum is divided by. Default true. */
  readonly countIncludePad?: boolean;
}

interface AvgPooling {
  readonly plan: PoolPlan;
  readonly from: Shape;
  readonly to: Shape;
}

/**
 * Mean of each window. Shapes: x [N, C, ...S], y [N, C, ...T]. Saves nothing: it is linear, and its gradient's gradient
 * is the pooling itself.
 */
const avgPoolOp: Op<{ x: Tensor }, AvgPooling, undefined> = defineOp<{ x: Tensor }, AvgPooling>({
  name: "avg_pool",
  forward({ x }, { plan, to }) {
    const out = Tensor.empty(to, x.dtype);
    kernels.avgPool(x.storage, out.storage, plan);
    return { out };
  },
  backward: (dy, _saved, pooling) => ({ x: () => avgPoolGrad({ dy }, pooling) }),
  twiceDifferentiable: true,
});

const avgPoolGrad: Op<{ dy: Tensor }, AvgPooling, undefined> = defineOp<{ dy: Tensor }, AvgPooling>({
  name: "avg_pool_grad",
  forward({ dy }, { plan, from }) {
    const out = Tensor.empty(from, dy.dtype);
    kernels.avgPoolGrad(dy.storage, out.storage, plan);
    return { out };
  },
  backward: (g, _saved, pooling) => ({ dy: () => avgPoolOp({ x: g }, pooling) }),
  twiceDifferentiable: true,
});

/**
 * Average pooling over the last `axes` axes of [N, C, ...S] or [C, ...S].
 * Throws ShapeError for another rank or a window that does not fit, OptionError for options out of range.
 */
export function avgPool(x: Tensor, kernelSize: PerAxis, axes: number, options: AvgPoolOptions = {}): Tensor {
  const owner = `avgPool${axes}d`;
  const { x: input, single } = batched(owner, x, axes);
  const { plan, shape } = poolPlan(owner, input, kernelSize, axes, options);
  return unbatched(avgPoolOp({ x: input }, { plan, from: input.shape, to: shape }), single);
}
