import { checkChoice } from "../../base/options.js";
import type { ActivationOp, NormActivation } from "../../kernels/kernel_set.js";

/** What a normalization's output can go through in the same pass over memory. */
export type NormActivationName = ActivationOp;

export interface ActivationOption {
  /** Default null: none. leakyRelu has the slope 0.01, gelu is the one with the error function. */
  readonly activation?: NormActivationName | null;
}

export const activationDefault = { activation: null as NormActivationName | null };

const names = ["relu", "leakyRelu", "gelu", "geluTanh", "silu", "sigmoid", "tanh"] as const;
const LEAKY_SLOPE = 0.01;

/** The option as the ops take it. */
export function readActivation(layer: string, name: unknown): NormActivation | null {
  if (name === null) return null;
  const op = checkChoice(`${layer}: activation`, name, names);
  return { op, alpha: op === "leakyRelu" ? LEAKY_SLOPE : 0 };
}
