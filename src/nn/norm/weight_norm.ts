import { noGrad, type Tensor } from "../../autograd/index.js";
import { ShapeError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { formatShape, normalizeAxis, type Shape } from "../../base/shape.js";
import { scope } from "../../memory/scope.js";
import { type Module, Parameter } from "../module.js";
import { parametrize, partsOf } from "./parametrize.js";

export interface WeightNormOptions {
  /** The property that holds the weight. Default "weight". */
  readonly name?: string;
  /** The axis whose every index has a norm of its own, default 0; null for one norm of the whole weight. */
  readonly dim?: number | null;
}

/** The axes that a norm spans, and the shape of the norms: 1 on those axes, or no axes at all for dim null. */
function spanOf(shape: Shape, dim: number | null): { axes: number[]; norms: Shape } {
  if (dim === null) return { axes: shape.map((_, i) => i), norms: [] };
  const a = normalizeAxis(dim, shape.length, "weightNorm: dim");
  return { axes: shape.flatMap((_, i) => (i === a ? [] : [i])), norms: shape.map((d, i) => (i === a ? d : 1)) };
}

/**
 * v = size * scaled, |scaled| <= 1, and the norm of `scaled`, so that squares neither overflow nor vanish. A zero vector
 * has size and norm 1 here: its direction is 0, and the gradient to it finite.
 */
function polar(v: Tensor, axes: readonly number[]): { size: Tensor; scaled: Tensor; norm: Tensor } {
  const size = noGrad(() => {
    const largest = v.abs().max(axes, { keepDim: true });
    return largest.add(largest.equal(0));
  });
  const scaled = v.div(size);
  const squares = scaled.square().sum(axes, { keepDim: true });
  return { size, scaled, norm: squares.add(squares.detach().equal(0)).sqrt() };
}

/**
 * w = g v / ||v||, with a norm for each index of `dim`, or one for all (null). Differentiable in v and g, twice too.
 * Shapes: v and w alike; g as v with length 1 on all axes but dim, or [] for null.
 * A zero vector gives zero weights and the gradient g dw, as though its norm were 1.
 * Throws ShapeError if g has another shape. Source: Salimans & Kingma 2016, arXiv:1602.07868.
 */
export function weightNormalized(v: Tensor, g: Tensor, options?: { readonly dim?: number | null }): Tensor {
  const { dim } = readOptions("F.weightNorm", options, { dim: 0 as number | null });
  const { axes, norms } = spanOf(v.shape, dim);
  if (formatShape(g.shape) !== formatShape(norms)) {
    throw new ShapeError({
      rule: `weightNorm of v ${formatShape(v.shape)} over dim ${dim} takes g of shape ${formatShape(norms)}`,
      got: formatShape(g.shape),
    });
  }
  return scope(() => {
    const { scaled, norm } = polar(v, axes);
    return scaled.mul(g.div(norm));
  });
}

/**
 * Learns a weight's length and direction apart: w = g v / ||v||. Changes the module in place and returns it; the weight
 * itself does not change. State: weight_g, weight_v in the place of weight. `removeParametrization` undoes it. What is
 * zero already has g = 0 and v = 0, each a factor of the other's gradient: it stays zero, so initialize first.
 */
export function weightNorm<M extends Module>(module: M, options?: WeightNormOptions): M {
  const { name, dim } = readOptions("weightNorm", options, { name: "weight", dim: 0 as number | null });
  parametrize("weightNorm", module, name, (weight) => {
    const { axes, norms } = spanOf(weight.shape, dim);
    const length = scope(() =>
      noGrad(() => {
        const { size, scaled, norm } = polar(weight, axes);
        // 1 stands in for the norm of a zero vector; times |scaled|, largest 1 or 0, it is 0 again.
        return size
          .mul(norm)
          .mul(scaled.abs().max(axes, { keepDim: true }))
          .reshape(norms);
      }),
    );
    const g = new Parameter(length, { noWeightDecay: weight.noWeightDecay });
    g.requiresGrad = weight.requiresGrad;
    const [original, gain] = [`${name}V`, `${name}G`];
    const parts = partsOf(module);
    return {
      by: "weightNorm",
      original,
      parameters: { [gain]: g },
      weight: () => weightNormalized(parts[original]!, parts[gain]!, { dim }),
    };
  });
  return module;
}
