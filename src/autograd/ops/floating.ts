import { isFloating } from "../../base/dtype.js";
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
