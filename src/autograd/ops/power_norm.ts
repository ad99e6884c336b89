import { kernels } from "../../kernels/dispatch.js";
import type { ColumnView } from "../../norm/views.js";
import { zeros } from "../create.js";
import { defineOp } from "../op.js";
import { Tensor } from "../tensor.js";
import { columnMoments, type Gathering } from "./column_parts.js";

type Inputs = {
  x: Tensor;
  weight: Tensor | null;
  bias: Tensor | null;
  /** psi^2 that x is divided by the root of, [C], float64. */
  square: Tensor;
  /** The batch's own psi_B^2, [C], float64, which is a constant here. */
  own: Tensor;
  /** What backward takes from g, kappa times xhat: nu, [C], float64; null for the exact gradient where psi is the batch's own. */
  nu: Tensor | null;
};

/** Values that x's are among: how many of each channel, and how sums over x become sums over all of them. */
interface Wider {
  readonly values: number;
  readonly add: Gathering["add"];
}

export interface PowerOptions {
  readonly view: ColumnView;
  readonly eps: number;
  /** What `own` was taken from; null where that is x. */
  readonly wider: Wider | null;
  /** Called in backward with what nu follows, [C], float64 each: <g xhat>, psi_B^2 and <xhat^2>. */
  readonly observe: (along: Tensor, own: Tensor, gamma: Tensor) => void;
}

/** Quadratic mean psi_B^2 = <x^2> of each channel, [C], float64, off the tape. */
export function quadraticMean(x: Tensor, view: ColumnView): Tensor {
  const both = columnMoments({ x: x.detach() }, { view });
  return squareOf({ mean: both.narrow(0, 0, 1), variance: both.narrow(0, 1, 1) });
}

/** <x^2> = variance + mean^2, which has no cancellation. */
export const squareOf = ({ mean, variance }: { mean: Tensor; variance: Tensor }): Tensor =>
  variance.add(mean.square()).reshape([-1]);

/** Kernel calls with mean 0: x times weight / sqrt(square + eps), plus bias. */
function scaled(
  { x, weight, bias, square }: Omit<Inputs, "nu" | "own">,
  { view, eps }: Pick<PowerOptions, "view" | "eps">,
): Tensor {
  const y = Tensor.empty(x.shape, x.dtype);
  const stats = { mean: zeros([view.channels], { dtype: "float64" }).storage, variance: square.storage };
  kernels.columnNormEval(x.storage, weight?.storage ?? null, bias?.storage ?? null, y.storage, stats, view, eps);
  return y;
}

/**
 * Power normalization: y = weight xhat + bias, xhat = x / psi, psi = sqrt(square + eps). Its gradient is approximate by
 * design where psi is a running value: with g = weight dy, dx = (g - nu xhat) / psi. With psi the batch's own,
 * dx = (g - xhat <g xhat>) / psi, which is exact. dweight = sum of dy xhat, dbias = sum of dy. Means are over all that `own` was taken
 * from, dweight and dbias are of x's own elements.
 *
 * Shapes: x and y any that has the view's elements, merge and batch 1; weight and bias [C].
 * Saves:  x, weight, square, psi_B^2 and nu.
 * Source: Shen et al. 2020, arXiv:2003.07845, algorithms 1 and 2.
 */
export const powerNorm = defineOp<Inputs, PowerOptions, Omit<Inputs, "bias">>({
  name: "power_norm",
  forward: (inputs, options) => ({ out: scaled(inputs, options), saved: inputs }),
  backward(dy, { x, weight, square, own, nu }, options) {
    const { view, eps, wider, observe } = options;
    const { channels } = view;
    const sums = Tensor.empty([2, channels], "float64");
    const stats = { mean: zeros([channels], { dtype: "float64" }).storage, variance: square.storage };
    kernels.columnSums(x.storage, dy.storage, stats, sums.storage, view);
    const half = (i: 0 | 1) => sums.narrow(0, i, 1).reshape([channels]);
    const rho = square.add(eps).rsqrt();
    const products = half(1).mul(rho);
    // A tensor of its own, which the sums of others are added to.
    const along = products.mul(weight ? weight.cast("float64") : 1);
    wider?.add(along.storage.view as Float64Array);
    const onto = along.div(wider?.values ?? view.outer * view.inner);
    observe(onto, own, own.div(square.add(eps)));
    return {
      x: () => {
        const away = (nu ?? onto).mul(rho).cast(x.dtype);
        const along = scaled({ x, weight: away, bias: null, square }, options);
        return scaled({ x: dy, weight, bias: null, square }, options).sub(along);
      },
      weight: () => products.cast(x.dtype),
      bias: () => half(0).cast(x.dtype),
    };
  },
});
