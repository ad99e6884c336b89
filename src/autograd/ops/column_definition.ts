import type { ColumnView } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { centre, layoutOf } from "./norm_definition.js";

// The gradients of column_parts.ts in differentiable ops, for derivatives of gradients. They work in x's type; statistics
// and what comes back to them stay float64.

/** That of columnMoments: dx = (dmean + 2 (x - mean) dvariance) / m. Shapes: d [2, statistics]; dx as x. */
export function momentsGradient(d: Tensor, x: Tensor, view: ColumnView): Tensor {
  const { shape, axes, statistics } = layoutOf({ kernel: "column", view });
  const centred = centre(x.reshape(shape), (t) => t.mean(axes, { keepDim: true }));
  const share = (row: 0 | 1, scale: number) =>
    d
      .narrow(0, row, 1)
      .mul(scale / (view.outer * view.merge * view.inner))
      .cast(x.dtype)
      .reshape(statistics);
  return centred.mul(share(1, 2)).add(share(0, 1)).reshape(x.shape);
}

interface Saved {
  readonly x: Tensor;
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly weight: Tensor | null;
}

/** Those of standardize, by its formulas. */
export function standardizeGradients(dy: Tensor, saved: Saved, { view, eps }: { view: ColumnView; eps: number }) {
  const { x, mean, variance, weight } = saved;
  const { shape, statistics, affine } = layoutOf({ kernel: "column", view });
  const high = mean.detach().cast(x.dtype);
  const low = mean.sub(high.cast("float64")).cast(x.dtype);
  const centred = x.reshape(shape).sub(high.reshape(statistics)).sub(low.reshape(statistics));
  const rho = variance.add(eps).rsqrt().cast(x.dtype).reshape(statistics);
  const dv = dy.reshape(shape);
  const g = weight ? dv.mul(weight.reshape(affine)) : dv;
  const toStatistics = (t: Tensor) => t.sumTo(statistics).reshape([mean.size]).cast("float64");
  const toAffine = (t: Tensor) => t.sumTo(affine).reshape([view.channels]);
  return {
    x: () => g.mul(rho).reshape(x.shape),
    mean: () => toStatistics(g.mul(rho)).neg(),
    variance: () => toStatistics(g.mul(centred).mul(rho).mul(rho.square())).mul(-0.5),
    weight: () => toAffine(dv.mul(centred).mul(rho)),
    bias: () => toAffine(dv),
  };
}
