import { heap } from "../../memory/heap.js";
import type { ActivationOp, KernelSet } from "../kernel_set.js";
import { erfc } from "./erf.js";

interface Curve {
  readonly value: (x: number, alpha: number) => number;
  readonly slope: (x: number, alpha: number) => number;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
/** sigmoid(x) * sigmoid(-x), since 1 - sigmoid(x) would cancel. */
const sigmoidSlope = (x: number): number => sigmoid(x) * sigmoid(-x);
const normalBelow = (x: number): number => erfc(-x * Math.SQRT1_2) / 2;
const normalDensity = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** 2u of geluTanh = x (1 + tanh u) / 2 = x sigmoid(2u), and its slope. */
const U = 2 * Math.sqrt(2 / Math.PI);
const twoU = (x: number): number => U * (x + 0.044715 * x ** 3);
const twoUSlope = (x: number): number => U * (1 + 3 * 0.044715 * x * x);

const curves: Readonly<Record<ActivationOp, Curve>> = {
  relu: { value: (x) => Math.max(x, 0), slope: (x) => (x <= 0 ? 0 : 1) },
  leakyRelu: { value: (x, alpha) => (x > 0 ? x : x * alpha), slope: (x, alpha) => (x > 0 ? 1 : alpha) },
  gelu: { value: (x) => x * normalBelow(x), slope: (x) => normalBelow(x) + x * normalDensity(x) },
  geluTanh: {
    value: (x) => x * sigmoid(twoU(x)),
    slope: (x) => {
      // Beyond 40 the sigmoid is 0 or 1 in double precision; the factor that grows must not meet that 0 as infinity.
      const c = Math.min(Math.max(x, -40), 40);
      return sigmoid(twoU(c)) + c * twoUSlope(c) * sigmoidSlope(twoU(c));
    },
  },
  silu: { value: (x) => x * sigmoid(x), slope: (x) => sigmoid(x) + x * sigmoidSlope(x) },
  sigmoid: { value: sigmoid, slope: sigmoidSlope },
  tanh: { value: Math.tanh, slope: (x) => 4 * sigmoidSlope(2 * x) },
};

/** f, for kernels that end in an activation. */
export const curveOf = (op: ActivationOp, alpha: number): ((x: number) => number) => {
  const { value } = curves[op];
  return (x) => value(x, alpha);
};

/** (x, dy) => dy f'(x). relu's zero is a zero even where dy is infinite or NaN. */
export const curveGradOf = (op: ActivationOp, alpha: number): ((x: number, dy: number) => number) => {
  const { slope } = curves[op];
  return (x, dy) => {
    const s = slope(x, alpha);
    return op === "relu" && s === 0 ? 0 : dy * s;
  };
};

export const activation: Pick<KernelSet, "activation" | "activationGrad"> = {
  activation(op, x, y, alpha) {
    const f = curveOf(op, alpha);
    const from = heap.view(x);
    const to = heap.view(y);
    for (let i = 0; i < to.length; i++) to[i] = f(from[i]!);
  },

  activationGrad(op, x, dy, dx, alpha) {
    const grad = curveGradOf(op, alpha);
    const [vx, vdy, vdx] = [heap.view(x), heap.view(dy), heap.view(dx)];
    for (let i = 0; i < vdx.length; i++) vdx[i] = grad(vx[i]!, vdy[i]!);
  },
};
