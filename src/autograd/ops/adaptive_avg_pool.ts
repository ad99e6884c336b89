import { OptionError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape } from "../../base/shape.js";
import { kernels } from "../../kernels/dispatch.js";
import type { AdaptivePlan } from "../../kernels/kernel_set.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";
import { batched, spatialNames, triple, unbatched } from "./windows.js";

interface AdaptivePooling {
  readonly plan: AdaptivePlan;
  readonly from: Shape;
  readonly to: Shape;
}

/**
 * Means of windows that cover the input whatever its size: window i of an axis spans
 * [floor(i in / out), ceil((i + 1) in / out)). Shapes: x [N, C, ...S], y [N, C, ...T]. Saves nothing: it is linear.
 */
const adaptiveOp: Op<{ x: Tensor }, AdaptivePooling, undefined> = defineOp<{ x: Tensor }, AdaptivePooling>({
  name: "adaptive_avg_pool",
  forward({ x }, { plan, to }) {
    const out = Tensor.empty(to, x.dtype);
    kernels.adaptiveAvgPool(x.storage, out.storage, plan);
    return { out };
  },
  backward: (dy, _saved, pooling) => ({ x: () => adaptiveGrad({ dy }, pooling) }),
  twiceDifferentiable: true,
});

const adaptiveGrad: Op<{ dy: Tensor }, AdaptivePooling, undefined> = defineOp<{ dy: Tensor }, AdaptivePooling>({
  name: "adaptive_avg_pool_grad",
  forward({ dy }, { plan, from }) {
    const out = Tensor.empty(from, dy.dtype);
    kernels.adaptiveAvgPoolGrad(dy.storage, out.storage, plan);
    return { out };
  },
  backward: (g, _saved, pooling) => ({ dy: () => adaptiveOp({ x: g }, pooling) }),
  twiceDifferentiable: true,
});

/** Lengths of the result along each spatial axis; null keeps the input's. */
export type OutputSize = number | readonly (number | null)[];

/**
 * Average pooling to a given size over the last `axes` axes of [N, C, ...S] or [C, ...S].
 * Throws ShapeError for another rank or empty spatial axes, OptionError for a size that is no whole number above 0.
 */
export function adaptiveAvgPool(x: Tensor, outputSize: OutputSize, axes: number): Tensor {
  const owner = `adaptiveAvgPool${axes}d`;
  const { x: input, single } = batched(owner, x, axes);
  const spatial = input.shape.slice(2);
  const asked = typeof outputSize === "number" ? new Array<number>(axes).fill(outputSize) : outputSize;
  const output = Array.isArray(asked) ? asked.map((n, i) => n ?? spatial[i]) : [];
  if (output.length !== axes || !output.every((n) => Number.isInteger(n) && n >= 1)) {
    throw new OptionError({
      rule: `${owner} outputSize must be a whole number of at least 1, or a list of ${axes} of them or null`,
      got: JSON.stringify(outputSize) ?? String(outputSize),
    });
  }
  if (spatial.some((n) => n === 0)) {
    throw new ShapeError({
      rule: `${owner} needs an input with elements along ${spatialNames(axes)}`,
      got: formatShape(x.shape),
    });
  }
  const planes = input.shape[0]! * input.shape[1]!;
  const plan: AdaptivePlan = { planes, input: triple(spatial, 1), output: triple(output as number[], 1) };
  const to = [...input.shape.slice(0, 2), ...(output as number[])];
  return unbatched(adaptiveOp({ x: input }, { plan, from: input.shape, to }), single);
}
