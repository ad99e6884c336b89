import { OptionError } from "../base/errors.js";
import { checkNumber } from "../base/options.js";

/**
 * How much the NEW batch weighs in running statistics (PyTorch's meaning; Keras and the papers weigh the old value):
 * a constant; null for the cumulative average, 1/n at the n-th batch; or a schedule n -> weight, with n = 1 at first.
 */
export type Momentum = number | null | ((n: number) => number);

const where = "a weight of the new value in [0, 1]";
const isWeight = (v: number): boolean => v >= 0 && v <= 1;

export function checkMomentum(owner: string, value: unknown): Momentum {
  if (value === null || typeof value === "function") return value as Momentum;
  if (typeof value !== "number") {
    throw new OptionError({
      rule: `${owner}: momentum must be ${where}, null for the cumulative average, or a function n -> weight`,
      got: typeof value === "string" ? `"${value}"` : String(value),
    });
  }
  return checkNumber(`${owner}: momentum`, value, where, isWeight);
}

/** The weight of the n-th batch, n = 1 for the first. */
export function momentumWeight(momentum: Momentum, n: number): number {
  if (momentum === null) return 1 / n;
  if (typeof momentum === "number") return momentum;
  return checkNumber(`The momentum schedule's value at batch ${n}`, momentum(n), where, isWeight);
}
