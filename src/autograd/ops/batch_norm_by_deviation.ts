import { scope } from "../../memory/scope.js";
import { batchView } from "../../norm/views.js";
import { full } from "../create.js";
import { noGrad } from "../graph.js";
import type { Tensor } from "../tensor.js";
import { columnMoments, normalizeAmong } from "./column_parts.js";
import { checkInputs, type NormInputs } from "./fused_norm.js";

/**
 * Batch normalization with the standard deviation where the variance belongs, for each feature:
 * y = weight * (x - mu) / sqrt(sigma + eps) + bias, sigma = sqrt(M2 / n). Its backward is that of batch normalization
 * with 1 / sqrt(sigma + eps) for rho, which is NOT the derivative of this y: it is what the original code computes.
 *
 * Shapes: x and y [N, ...F]; weight and bias broadcast to F, each optional.
 * Saves:  x, mu, sigma, weight.
 * Throws: DTypeError if x is not of a floating type, or weight or bias is not of x's; ShapeError if weight or bias does not broadcast to F.
 * Source: oujago/NumpyDL, npdl.layers.BatchNormal.
 */
export function batchNormByDeviation({ x, weight, bias }: NormInputs, { eps }: { readonly eps: number }): Tensor {
  const shape = x.shape.slice(1);
  return scope(() => {
    const flat = x.reshape([x.shape[0]!, -1]);
    const features = flat.shape[1]!;
    const operand = (p: Tensor | null) => p?.expand(shape).reshape([features]) ?? null;
    const affine = { weight: operand(weight), bias: operand(bias) };
    checkInputs("batch_norm_by_deviation", { x: flat, ...affine }, [features]);
    const { view } = batchView(flat.shape);
    const moments = noGrad(() => columnMoments({ x: flat }, { view }));
    const part = (i: number) => moments.narrow(0, i, 1).reshape([features]);
    const counts = full([features], x.shape[0]!, { dtype: "float64" });
    const inputs = { x: flat, mean: part(0), variance: part(1).sqrt(), ...affine, counts };
    return normalizeAmong(inputs, { view, eps }).reshape(x.shape);
  });
}
