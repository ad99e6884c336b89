import type { Shape } from "../../base/shape.js";
import type { NormCase } from "../../norm/views.js";
import type { Tensor } from "../tensor.js";
import { activation as activationOf, activationSlope } from "./activation.js";
import type { NormInputs, NormOptions } from "./fused_norm.js";

/** A view of x as a plain shape: which axes a statistic spans, and the shapes that statistics and affine broadcast as. */
interface Layout {
  readonly shape: Shape;
  readonly axes: readonly number[];
  readonly statistics: Shape;
  readonly affine: Shape;
}

export function layoutOf({ kernel, view }: NormCase): Layout {
  if (kernel === "row") {
    const { rows, size, groups, inner } = view;
    const [batch, channels] = [rows / groups, size / inner];
    return {
      shape: [batch, groups, channels, inner],
      axes: [2, 3],
      statistics: [batch, groups, 1, 1],
      affine: [1, groups, channels, 1],
    };
  }
  const { batch, outer, channels, inner, merge } = view;
  const groups = channels / merge;
  return {
    shape: [batch, outer, groups, merge, inner],
    axes: [1, 3, 4],
    statistics: [batch, 1, groups, 1, 1],
    affine: [1, 1, groups, merge, 1],
  };
}

/**
 * x less its mean, which is taken away in two parts. The first is a constant, rounded to x's type; what is left of x has a
 * mean of the size of that rounding, which is then known, and differentiated, as well as x's spread is. A mean in one
 * part costs 4e-4 of a second derivative in float32 where it is 1e4 standard deviations.
 */
export function centre(x: Tensor, average: (t: Tensor) => Tensor): Tensor {
  const shifted = x.sub(average(x.detach()));
  return shifted.sub(average(shifted));
}

/** xhat and rho of the formula, in differentiable ops: two passes, since E[x^2] - mu^2 cancels. */
function standardize(x: Tensor, { on, eps, centred = true, given }: NormOptions) {
  const layout = layoutOf(on);
  const xv = x.reshape(layout.shape);
  const average = (t: Tensor) => t.mean(layout.axes, { keepDim: true });
  const constant = (t: Tensor) => t.detach().cast(x.dtype).reshape(layout.statistics);
  let centredX = xv;
  if (given) {
    const mean = given.mean.detach();
    const rounded = mean.cast(x.dtype).cast(mean.dtype);
    centredX = xv.sub(constant(rounded)).sub(constant(mean.sub(rounded)));
  } else if (centred) {
    centredX = centre(xv, average);
  }
  const variance = given ? constant(given.variance) : average(centredX.square());
  const rho = variance.add(eps).rsqrt();
  return { layout, rho, xhat: centredX.mul(rho) };
}

/** The definition that the fused kernels compute: y = weight * xhat + bias. Tests hold the kernels against it. */
export function normByDefinition(x: Tensor, weight: Tensor | null, bias: Tensor | null, options: NormOptions): Tensor {
  const { layout, xhat } = standardize(x, options);
  const z = scaleAndShift(xhat, weight, bias, layout).reshape(x.shape);
  return options.activation ? activationOf(z, options.activation.op, options.activation.alpha) : z;
}

function scaleAndShift(xhat: Tensor, weight: Tensor | null, bias: Tensor | null, { affine }: Layout): Tensor {
  const scaled = weight ? xhat.mul(weight.reshape(affine)) : xhat;
  return bias ? scaled.add(bias.reshape(affine)) : scaled;
}

/** Its gradients by the formulas of fused_norm.ts, themselves differentiable. */
export function normGradients(dy: Tensor, { x, weight, bias }: NormInputs, options: NormOptions) {
  const { layout, rho, xhat } = standardize(x, options);
  const dyv = dy.reshape(layout.shape);
  const slope = options.activation && activationSlope(scaleAndShift(xhat, weight, bias, layout), options.activation);
  const dv = slope ? dyv.mul(slope) : dyv;
  const average = (t: Tensor) => t.mean(layout.axes, { keepDim: true });
  const toAffine = (t: Tensor) => t.sumTo(layout.affine).reshape(options.affineShape);
  return {
    x: () => {
      const g = weight ? dv.mul(weight.reshape(layout.affine)) : dv;
      if (options.given) return g.mul(rho).reshape(x.shape);
      const along = g.sub(xhat.mul(average(g.mul(xhat))));
      const tangent = options.centred === false ? along : along.sub(average(g));
      return tangent.mul(rho).reshape(x.shape);
    },
    weight: () => toAffine(dv.mul(xhat)),
    bias: () => toAffine(dv),
  };
}
