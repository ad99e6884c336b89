import type { ActivationOp, KernelSet, NormActivation } from "../kernel_set.js";
import { kernelArgs, run } from "../threads/pool.js";
import { EXP_WORK, LIGHT_WORK, needFloat32, UNIT } from "./elementwise.js";
import { kernelIndex } from "./module.js";

const ACTIVATION = kernelIndex("activation");
const ACTIVATION_GRAD = kernelIndex("activation_grad");

/** Codes as in assembly/lib_activation.ts. */
const code: Readonly<Record<ActivationOp, number>> = {
  relu: 0,
  leakyRelu: 1,
  gelu: 2,
  geluTanh: 3,
  silu: 4,
  sigmoid: 5,
  tanh: 6,
};
/** The code of a kernel that ends in an activation: plus one, or 0 for none. */
export const activationCode = (activation: NormActivation | null | undefined): number =>
  activation ? code[activation.op] + 1 : 0;

/** The two arguments of such a kernel: the code, and alpha. */
export const activationArgs = (activation: NormActivation | null | undefined): [number, number] => [
  activationCode(activation),
  activation ? activation.alpha : 0,
];

const cost = (op: ActivationOp): number => (code[op] >= 2 ? EXP_WORK : LIGHT_WORK);

export const activation: Pick<KernelSet, "activation" | "activationGrad"> = {
  activation(op, x, y, alpha) {
    needFloat32("activation", x, y);
    const a = kernelArgs();
    a[0] = code[op];
    a[1] = x.ptr;
    a[2] = y.ptr;
    a[3] = y.length;
    a[4] = alpha;
    a[5] = UNIT;
    run(ACTIVATION, Math.ceil(y.length / UNIT), y.length * cost(op));
  },

  activationGrad(op, x, dy, dx, alpha) {
    needFloat32("activationGrad", x, dy, dx);
    const a = kernelArgs();
    a[0] = code[op];
    a[1] = x.ptr;
    a[2] = dy.ptr;
    a[3] = dx.ptr;
    a[4] = dx.length;
    a[5] = alpha;
    a[6] = UNIT;
    run(ACTIVATION_GRAD, Math.ceil(dx.length / UNIT), dx.length * cost(op));
  },
};
