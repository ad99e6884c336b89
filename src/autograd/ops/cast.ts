import type { DType } from "../../base/dtype.js";
import { kernels } from "../../kernels/dispatch.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";

const castOp = defineOp<{ x: Tensor }, { dtype: DType }, { x: Tensor }>({
  name: "cast",
  forward({ x }, { dtype }) {
    const out = Tensor.empty(x.shape, dtype);
    kernels.cast(x.storage, out.storage);
    return { out, saved: { x } };
  },
  backward: (dy, { x }) => ({ x: () => dy.cast(x.dtype) }),
  twiceDifferentiable: true,
});

/** x with another element type; x itself when it has it already. Floats become int32 by cutting off the fraction. */
export const cast = (x: Tensor, dtype: DType): Tensor => (x.dtype === dtype ? x : castOp({ x }, { dtype }));
