import { isFloating } from "../../base/dtype.js";
import { kernels } from "../../kernels/dispatch.js";
import type { ActivationOp, NormActivation } from "../../kernels/kernel_set.js";
import { gradientLike, isRecording } from "../graph.js";
import { defineOp, type Op } from "../op.js";
import { Tensor } from "../tensor.js";

const TANH_SCALE = Math.sqrt(2 / Math.PI);
const TANH_CUBIC = 0.044715;

/** f'(x) in differentiable ops: what createGraph records in place of the fused kernel. `alpha` is leakyRelu's slope. */
const slopes: Record<ActivationOp, (x: Tensor, alpha: number) => Tensor> = {
  relu: (x) => x.lessEqual(0).logicalNot(),
  leakyRelu: (x, alpha) =>
    x
      .greater(0)
      .mul(1 - alpha)
      .add(alpha),
  // x Phi(x): Phi + x phi
  gelu(x) {
    const cumulative = x.mul(Math.SQRT1_2).erf().add(1).mul(0.5);
    const density = x
      .square()
      .mul(-0.5)
      .exp()
      .mul(1 / Math.sqrt(2 * Math.PI));
    return cumulative.add(x.mul(density));
  },
  geluTanh(x) {
    const t = x.mul(x.square().mul(TANH_CUBIC).add(1)).mul(TANH_SCALE).tanh();
    const inner = x
      .square()
      .mul(3 * TANH_CUBIC)
      .add(1)
      .mul(TANH_SCALE);
    const bend = t.square().neg().add(1).mul(inner).mul(x);
    return t.add(1).add(bend).mul(0.5);
  },
  // 1 - sigmoid(x) would cancel for large x; it is sigmoid(-x).
  silu: (x) => x.sigmoid().mul(x.mul(x.neg().sigmoid()).add(1)),
  sigmoid: (x) => x.sigmoid().mul(x.neg().sigmoid()),
  tanh: (x) => x.tanh().square().neg().add(1),
};

/** f'(x) in differentiable ops. */
export const activationSlope = (x: Tensor, { op, alpha }: NormActivation): Tensor => slopes[op](x, alpha);

/**
 * y = f(x), elementwise: relu max(x, 0), leakyRelu x or alpha x, gelu x Phi(x) with the error function, geluTanh its
 * approximation by tanh, silu x sigmoid(x), sigmoid, tanh. At 0 relu's slope is 0 and leakyRelu's is alpha.
 *
 * Shapes: any. Forward and backward are one pass over memory each, nothing between them is kept.
 * Saves:  relu y, whose sign says as much as that of x, and which the next layer saves anyhow; the others x.
 * Source: gelu Hendrycks & Gimpel 2016, arXiv:1606.08415; silu Elfwing et al. 2017, arXiv:1702.03118.
 */
const activationOp: Op<{ x: Tensor }, { op: ActivationOp; alpha: number }, undefined> = defineOp<
  { x: Tensor },
  { op: ActivationOp; alpha: number },
  { x: Tensor }
>({
  name: "activation",
  forward({ x }, { op, alpha }) {
    const input = isFloating(x.dtype) ? x : x.cast("float32");
    const out = Tensor.empty(input.shape, input.dtype);
    kernels.activation(op, input.storage, out.storage, alpha);
    return { out, saved: { x: op === "relu" ? out : input } };
  },
  backward(dy, { x }, { op, alpha }) {
    return {
      x: () => {
        if (isRecording()) return dy.mul(slopes[op](x, alpha));
        const dx = gradientLike(dy);
        kernels.activationGrad(op, x.storage, dy.storage, dx.storage, alpha);
        return dx;
      },
    };
  },
  twiceDifferentiable: true,
});

/** An activation by name; `alpha` is leakyRelu's slope for negative x. int32 becomes float32. */
export const activation = (x: Tensor, op: ActivationOp, alpha = 0): Tensor => activationOp({ x }, { op, alpha });
