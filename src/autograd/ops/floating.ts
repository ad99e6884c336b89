import { isFloating, mixable } from "../../base/dtype.js";
import { DTypeError } from "../../base/errors.js";
import type { Tensor } from "../tensor.js";

/** x must be of a floating-point type, and what is named beside it of the same. Throws DTypeError. */
export function checkFloating(owner: string, x: Tensor, others: Readonly<Record<string, Tensor | null>>): void {
  const other = Object.entries(others).find(([, t]) => t && t.dtype !== x.dtype);
  if (isFloating(x.dtype) && !other) return;
  throw new DTypeError({
    rule: `${owner} takes ${["x", ...Object.keys(others)].join(", ")} of one floating-point type`,
    got: `x of ${x.dtype}${other ? ` and ${other[0]} of ${other[1]!.dtype}` : ""}`,
    fix: 'Use to("float32") on the tensor that differs, or make the layer with another dtype',
  });
}

/**
 * What a layer multiplies by and adds must be of x's type, or float32 beside float16 (and the other way round): x is then stored
 * as float16 and the layer keeps its own digits. Throws DTypeError.
 */
export function checkLayerTypes(owner: string, x: Tensor, weight: Tensor, bias: Tensor | null): void {
  const fits = mixable(x.dtype, weight.dtype) && (!bias || bias.dtype === weight.dtype);
  if (isFloating(x.dtype) && fits) return;
  throw new DTypeError({
    rule: `${owner} needs x, weight and bias of one floating-point type`,
    got: [x, weight, ...(bias ? [bias] : [])].map((t) => t.dtype).join(", "),
    fix: 'Cast the input with x.to("float32"), or the layer with layer.to("float64")',
  });
}
