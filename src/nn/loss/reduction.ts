import type { Tensor } from "../../autograd/index.js";
import { arithmeticType } from "../../base/dtype.js";
import { OptionError, ShapeError } from "../../base/errors.js";
import { unknownName } from "../../base/options.js";
import { formatShape, sameShape } from "../../base/shape.js";

/** What becomes of the single losses. */
export type Reduction = "mean" | "sum" | "none";
export interface ReductionOptions {
  /** Default "mean". */
  readonly reduction?: Reduction;
}

const reductions: readonly string[] = ["mean", "sum", "none"];

export function checkReduction(owner: string, value: unknown): Reduction {
  if (typeof value === "string" && reductions.includes(value)) return value as Reduction;
  if (typeof value === "string") throw unknownName(`${owner} reduction is mean, sum or none`, value, reductions);
  throw new OptionError({ rule: `${owner} reduction is "mean", "sum" or "none"`, got: String(value) });
}

/** What losses are computed from: float16 as float32, as torch.autocast does, since squares and sums leave its range. */
export const forLoss = (t: Tensor): Tensor => t.cast(arithmeticType(t.dtype));

export function reduceLoss(values: Tensor, reduction: Reduction): Tensor {
  if (reduction === "none") return values;
  return reduction === "sum" ? values.sum() : values.mean();
}

/** Throws ShapeError unless input and target have one shape: broadcasting here hides a missing axis far too well. */
export function checkPair(owner: string, input: Tensor, target: Tensor): void {
  if (sameShape(input.shape, target.shape)) return;
  throw new ShapeError({
    rule: `${owner} needs input and target of one shape`,
    got: `${formatShape(input.shape)} and ${formatShape(target.shape)}`,
    fix: "Reshape or expand one of them",
  });
}
