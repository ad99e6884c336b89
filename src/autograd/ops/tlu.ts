import { normalizeAxis, type Shape } from "../../base/shape.js";
import { defineOp } from "../op.js";
import type { Tensor } from "../tensor.js";
import { checkInputs } from "./fused_norm.js";

type Inputs = { x: Tensor; tau: Tensor };

/** [C] as a shape that broadcasts along `axis` of x. */
const alongAxis = (x: Tensor, axis: number): Shape => [-1, ...x.shape.slice(axis + 1).map(() => 1)];

const op = defineOp<Inputs, { axis: number }, Inputs>({
  name: "tlu",
  forward({ x, tau }, { axis }) {
    checkInputs("tlu", { x, tau }, [x.shape[axis]!]);
    return { out: x.maximum(tau.reshape(alongAxis(x, axis))), saved: { x, tau } };
  },
  backward(dy, { x, tau }, { axis }) {
    const threshold = tau.reshape(alongAxis(x, axis));
    return {
      x: () => dy.mul(x.greater(threshold)),
      tau: () => dy.mul(x.lessEqual(threshold)).sumTo(threshold.shape).reshape(tau.shape),
    };
  },
  twiceDifferentiable: true,
});

/**
 * Thresholded linear unit: y = max(x, tau), one threshold a channel. dx = dy where x > tau, else dtau gets it: where the
 * two are equal x has no slope, as in relu.
 *
 * Shapes: x and y [..., C, ...] with C on `axis`; tau [C]. Saves x and tau.
 * Source: Singh & Krishnan 2019, arXiv:1911.09737.
 */
export const tlu = (inputs: Inputs, axis = 1): Tensor =>
  op(inputs, { axis: normalizeAxis(axis, inputs.x.rank, "The channel axis") });
