import { normInputs, norms } from "./norms.js";
import { convInputs, convolutions, matmulInputs, products, reduced } from "./products.js";
import { RandomInputs } from "./random.js";
import { steps } from "./steps.js";

export const cases = [...norms, ...products, ...convolutions, ...steps];

/** What can be asked for by name: each mode of each case. */
export const cells = cases.flatMap((subject) =>
  subject.modes.map((mode) => ({ name: `${subject.id} ${mode}`, subject, mode })),
);

const inputs = { norm: normInputs, matmul: matmulInputs, conv: convInputs, step: () => ({}) };

export const makeInputs = (subject) => inputs[subject.kind](subject, new RandomInputs(12345));

/** What reference computes of a case: all of it, or as much as it can in seconds. */
export const checkable = (subject) => (subject.kind === "norm" ? subject : reduced(subject));
