import type { ActivationOp, KernelSet } from "../kernel_set.js";
import { expressions } from "./chain_text.js";
import { runElements } from "./device.js";
import { elementProgram, groupsFor, only } from "./elementwise.js";
import { MATH } from "./math.js";

/** What the expressions of activationValue and activationSlope call, for any shader that ends in an activation. Needs MATH. */
export const ACTIVATION = `
/** e^-|v|, which cannot overflow. */
fn down(v: E) -> E { return exp(-abs(v)); }
fn sigmoid_(v: E) -> E {
  let e = down(v);
  return select(E(1.0), e, v < E(0.0)) / (e + 1.0);
}
/** e / (1 + e)^2, where s (1 - s) would cancel. */
fn sigmoid_slope(v: E) -> E {
  let e = down(v);
  return e / ((e + 1.0) * (e + 1.0));
}

fn bell(v: E) -> E { return exp(v * v * -0.5); }
/** The share of the normal distribution below v, where e = bell(v); its left tail keeps its relative accuracy. */
fn normal_below(v: E, e: E) -> E {
  let z = min(abs(v) * 0.707106781, E(10.2));
  let tail = e * 0.5 * scaled_erfc(z);
  return select(1.0 - tail, tail, v < E(0.0));
}
fn gelu_slope(v: E) -> E {
  let e = bell(v);
  return normal_below(v, e) + v * e * 0.398942280;
}

/** 2 sqrt(2 / pi) (v + 0.044715 v^3): gelu by tanh is v sigmoid of this, and nothing cancels. */
fn two_u(v: E) -> E { return v * (v * v * 0.0713548163 + 1.59576912); }
fn gelu_tanh_slope(v: E) -> E {
  // Beyond 12 the sigmoid is 0 or 1 in float32; there the cube must not overflow and meet that 0.
  let c = clamp(v, E(-12.0), E(12.0));
  let t = two_u(c);
  return sigmoid_(t) + c * (c * c * 0.214064449 + 1.59576912) * sigmoid_slope(t);
}
/** y, or NaN where v is: comparisons and limits lose it. */
fn or_nan(v: E, y: E) -> E { return select(y, v, is_nan(v)); }
`;

const valuesWith = (alpha: string): Readonly<Record<ActivationOp, string>> => ({
  relu: "or_nan(v, select(E(0.0), v, v > E(0.0)))",
  leakyRelu: `select(v * ${alpha}, v, v > E(0.0))`,
  gelu: "or_nan(v, v * normal_below(v, bell(v)))",
  geluTanh: "or_nan(v, v * sigmoid_(two_u(v)))",
  silu: "or_nan(v, v * sigmoid_(v))",
  sigmoid: "or_nan(v, sigmoid_(v))",
  tanh: "tanh_(v)",
});
/** f(v), where the slope of leakyRelu below 0 is `alpha`. */
export const activationValue = (op: ActivationOp, alpha: string): string => valuesWith(alpha)[op];

const gradientsWith = (alpha: string): Readonly<Record<ActivationOp, string>> => ({
  relu: "select(E(0.0), g, (v > E(0.0)) | is_nan(v))",
  leakyRelu: `select(g * ${alpha}, g, v > E(0.0))`,
  gelu: "g * or_nan(v, gelu_slope(v))",
  geluTanh: "g * or_nan(v, gelu_tanh_slope(v))",
  silu: "g * or_nan(v, sigmoid_(v) + v * sigmoid_slope(v))",
  sigmoid: "g * or_nan(v, sigmoid_slope(v))",
  tanh: "g * or_nan(v, 4.0 * sigmoid_slope(v + v))",
});
/** g f'(v). The zero of relu's slope is a zero even where g is infinite or NaN, and a NaN in v lets g pass. */
export const activationGradient = (op: ActivationOp, alpha: string): string => gradientsWith(alpha)[op];

const library = [MATH, ACTIVATION];
const values = expressions({ x: "v" }, valuesWith("k"), library, "alpha");
const gradients = expressions({ x: "v", dy: "g" }, gradientsWith("k"), library, "alpha");

const forward = elementProgram(
  "activation",
  ["x"],
  `${MATH}${ACTIVATION}
fn f(i: u32) -> E { let v = x_at(i); return $VALUE; }`,
  { alpha: "f32" },
);

const backward = elementProgram(
  "activation_grad",
  ["x", "dy"],
  `${MATH}${ACTIVATION}
fn f(i: u32) -> E { let v = x_at(i); let g = dy_at(i); return $VALUE; }`,
  { alpha: "f32" },
);

export const activation: Pick<KernelSet, "activation" | "activationGrad"> = {
  activation(op, x, y, alpha) {
    only("activation", ["float32"], x, y);
    const constants = { VALUE: activationValue(op, "P.alpha") };
    const parameters = { size: y.length, alpha };
    runElements(forward, { operands: { x, y }, parameters, groups: groupsFor(y.length), constants }, values[op]);
  },

  activationGrad(op, x, dy, dx, alpha) {
    only("activationGrad", ["float32"], x, dy, dx);
    const constants = { VALUE: activationGradient(op, "P.alpha") };
    const parameters = { size: dx.length, alpha };
    const operands = { x, dy, y: dx };
    runElements(backward, { operands, parameters, groups: groupsFor(dx.length), constants }, gradients[op]);
  },
};
