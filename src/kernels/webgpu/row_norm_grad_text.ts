import type { ActivationOp } from "../kernel_set.js";
import { ACTIVATION, activationGradient } from "./activation.js";
import { MATH } from "./math.js";
import type { Program } from "./program.js";
import { affineOperands, affineText, inputs, load, PAIRS_IN, type Runs, rowText, WRITE } from "./row_norm_text.js";

export interface GradLayout {
  readonly wide: boolean;
  readonly runs: Runs;
  readonly op: ActivationOp | null;
  readonly centred: boolean;
}

export const gradOperands = (runs: Runs): Program["operands"] => ({
  ...inputs("x", "dy"),
  ...affineOperands(runs),
  dx: WRITE,
  mean: PAIRS_IN,
  variance: PAIRS_IN,
});

/** `through(z, g)`: the gradient to what went into the activation. */
export const gradText = ({ wide, runs, op }: GradLayout): string => `
${op ? MATH + ACTIVATION : ""}
${rowText(wide)}
${affineText(wide, runs)}
${op ? `fn through(v: E, g: E) -> E { return ${activationGradient(op, "P.alpha")}; }` : ""}`;

/** xhat of an element x of row r, with `m` its mean. */
export const xhat = (x: string, centred: boolean): string => (centred ? `((${x} - m.x) - m.y) * rho` : `${x} * rho`);

/** `m` and `rho` of row r. */
export const statsOf = (centred: boolean): string =>
  `${centred ? "let m = mean_at(r);" : ""} let rho = rho_of(variance_at(r));`;

/** c = xhat and g = dy for each element that a lane keeps. */
export const loadGrads = (kept: number, width: number, centred: boolean): string => `
    ${load(kept, width, (k, at) => `let x${k} = x_at(${at}); var g${k} = dy_at(${at});`)}
    ${statsOf(centred)}
    ${load(kept, width, (k) => `let c${k} = ${xhat(`x${k}`, centred)};`)}`;
