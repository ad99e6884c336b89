import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import type { Gathering } from "./column_parts.js";

interface Options {
  readonly gather: Gathering & { readonly affine: number };
}

/**
 * x itself, whose gradient is that of all ranks, as `gather` says: for a parameter whose gradient has no other message to go with.
 *
 * Shapes: any; y shares x's storage.
 */
export const groupGradient = defineOp<{ x: Tensor }, Options>({
  name: "group_gradient",
  forward: ({ x }) => ({ out: new Tensor(x.storage.retain(), x.shape) }),
  backward(dy, _saved, { gather: { add, affine } }) {
    return {
      x: () => {
        const all = dy.cast("float64").mul(affine);
        add(all.storage.view as Float64Array);
        return all.cast(dy.dtype);
      },
    };
  },
});
