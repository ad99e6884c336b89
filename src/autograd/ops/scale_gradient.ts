import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";

/** y = x, dx = scale dy. Shapes: any; y shares x's storage. */
const op = defineOp<{ x: Tensor }, { scale: number }>({
  name: "scale_gradient",
  forward: ({ x }) => ({ out: new Tensor(x.storage.retain(), x.shape) }),
  backward: (dy, _saved, { scale }) => ({ x: () => dy.mul(scale) }),
  twiceDifferentiable: true,
});

/** x itself, whose gradient comes back `scale` times as large. */
export const scaleGradient = (x: Tensor, scale: number): Tensor => (scale === 1 ? x : op({ x }, { scale }));
