import { checkNumbers, Tensor } from "../../autograd/index.js";
import { DTypeError, describeValue, ShapeError } from "../../base/errors.js";
import { formatShape } from "../../base/shape.js";

export function checkConditionTensor(layer: string, condition: unknown): asserts condition is Tensor {
  if (condition instanceof Tensor) return;
  throw new DTypeError({
    rule: `${layer}.forward takes a condition behind x`,
    got: describeValue(condition),
    fix: "Pass it as a second tensor: layer.forward(x, condition)",
  });
}

/** A condition must be [N, size], one row for each sample of x. */
export function checkCondition(layer: string, condition: unknown, x: Tensor, size: number): void {
  checkConditionTensor(layer, condition);
  const { shape } = condition;
  const samples = x.shape[0] ?? 0;
  if (shape.length === 2 && shape[0] === samples && shape[1] === size) return;
  throw new ShapeError({
    rule: `${layer} takes a condition [${samples}, ${size}]: a row of ${size} numbers for each sample of x ${formatShape(x.shape)}`,
    got: formatShape(shape),
    fix:
      shape.length === 2 && shape[0] === samples
        ? `Make the layer with conditionSize ${shape[1]}`
        : "Reshape the condition to [N, conditionSize], in the order of the samples",
  });
}

/** Class numbers must be [N], int32, each in [0, classes). */
export function checkClasses(layer: string, condition: unknown, x: Tensor, classes: number): void {
  checkConditionTensor(layer, condition);
  if (condition.dtype !== "int32") {
    throw new DTypeError({
      rule: `${layer} takes class numbers of type int32`,
      got: `a condition of ${condition.dtype}`,
      fix: 'Make them with tensor(numbers, { dtype: "int32" }); for a vector condition make the layer with { condition: "vector" }',
    });
  }
  const samples = x.shape[0] ?? 0;
  if (condition.rank !== 1 || condition.size !== samples) {
    throw new ShapeError({
      rule: `${layer} takes one class number for each sample of x ${formatShape(x.shape)}, shape [${samples}]`,
      got: formatShape(condition.shape),
    });
  }
  checkNumbers(condition, (numbers) => {
    const at = numbers.findIndex((v) => v < 0 || v >= classes);
    if (at < 0) return;
    throw new ShapeError({
      rule: `${layer} with ${classes} classes takes class numbers from 0 to ${classes - 1}`,
      got: `${numbers[at]} for sample ${at}`,
      fix: "Raise numClasses, or map the labels to 0, 1, 2, ...",
    });
  });
}

/** Equal parts of the last axis of [N, parts * features]. */
export const partsOf = (t: Tensor, parts: number): Tensor[] => {
  const features = t.shape[1]! / parts;
  return Array.from({ length: parts }, (_, i) => t.narrow(1, i * features, features));
};
