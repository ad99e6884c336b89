import type { DType } from "../base/dtype.js";
import { checkDType } from "../base/dtype.js";
import type { BinaryOp, UnaryOp } from "../kernels/kernel_set.js";
import type { DeviceName } from "../memory/device.js";
import type { BackwardOptions } from "./backward.js";
import { backward } from "./backward.js";
import { cast } from "./ops/cast.js";
import { binary, operand, unary } from "./ops/elementwise.js";
import { matmul } from "./ops/matmul.js";
import { concat, expand, flip, narrow, pad, permute, reshape, slice, transpose } from "./ops/movement.js";
import {
  argMax,
  max,
  mean,
  min,
  prod,
  type ReduceOptions,
  type SumOptions,
  sum,
  sumTo,
  variance,
} from "./ops/reduction.js";
import { Tensor } from "./tensor.js";
import { toCPU, toDevice } from "./to_device.js";

/** Axes to reduce; options may be given as `true` for { keepDim: true }. */
type Axes = number | readonly number[] | undefined;
type Reduce = ReduceOptions | boolean;
const reduceOptions = (o: Reduce | undefined): ReduceOptions => (typeof o === "boolean" ? { keepDim: o } : (o ?? {}));

const unaryMethods = {
  ...{ neg: "neg", abs: "abs", sign: "sign", square: "square", sqrt: "sqrt", rsqrt: "rsqrt", exp: "exp", log: "log" },
  ...{ reciprocal: "reciprocal", log1p: "log1p", expm1: "expm1", tanh: "tanh", erf: "erf", sigmoid: "sigmoid" },
  ...{ softplus: "softplus", sin: "sin", cos: "cos", floor: "floor", ceil: "ceil", round: "round" },
  ...{ isNaN: "isNaN", logicalNot: "not" },
} as const;

const binaryMethods = {
  ...{ add: "add", sub: "sub", mul: "mul", div: "div", pow: "pow", maximum: "maximum", minimum: "minimum" },
  ...{ equal: "equal", notEqual: "notEqual", less: "less", lessEqual: "lessEqual", greater: "greater" },
  ...{ greaterEqual: "greaterEqual" },
} as const;

const otherMethods = {
  sum(this: Tensor, axes?: Axes, options?: SumOptions | boolean): Tensor {
    return sum(this, axes, reduceOptions(options));
  },
  mean(this: Tensor, axes?: Axes, options?: Reduce): Tensor {
    return mean(this, axes, reduceOptions(options));
  },
  variance(this: Tensor, axes?: Axes, options?: ReduceOptions & { correction?: number }): Tensor {
    return variance(this, axes, options);
  },
  max(this: Tensor, axes?: Axes, options?: Reduce): Tensor {
    return max(this, axes, reduceOptions(options));
  },
  min(this: Tensor, axes?: Axes, options?: Reduce): Tensor {
    return min(this, axes, reduceOptions(options));
  },
  prod(this: Tensor, axes?: Axes, options?: Reduce): Tensor {
    return prod(this, axes, reduceOptions(options));
  },
  argMax(this: Tensor, axis?: number, options?: Reduce): Tensor {
    return argMax(this, axis, reduceOptions(options));
  },
  sumTo(this: Tensor, shape: readonly number[]): Tensor {
    return sumTo(this, shape);
  },
  reshape(this: Tensor, shape: readonly number[]): Tensor {
    return reshape(this, shape);
  },
  flatten(this: Tensor, startAxis = 0): Tensor {
    return reshape(this, [...this.shape.slice(0, startAxis), -1]);
  },
  permute(this: Tensor, order: readonly number[]): Tensor {
    return permute(this, order);
  },
  transpose(this: Tensor, a?: number, b?: number): Tensor {
    return transpose(this, a, b);
  },
  expand(this: Tensor, shape: readonly number[]): Tensor {
    return expand(this, shape);
  },
  slice(this: Tensor, start: readonly number[], size?: readonly number[]): Tensor {
    return slice(this, start, size);
  },
  narrow(this: Tensor, axis: number, start: number, length: number): Tensor {
    return narrow(this, axis, start, length);
  },
  pad(this: Tensor, widths: readonly (readonly [number, number])[], value?: number): Tensor {
    return pad(this, widths, value);
  },
  /** This tensor and others joined along an axis. */
  concat(this: Tensor, others: Tensor | readonly Tensor[], axis?: number): Tensor {
    return concat([this, ...(others instanceof Tensor ? [others] : others)], axis);
  },
  flip(this: Tensor, axes: number | readonly number[]): Tensor {
    return flip(this, axes);
  },
  matmul(this: Tensor, other: Tensor, options?: { transposeA?: boolean; transposeB?: boolean }): Tensor {
    return matmul(this, other, options);
  },
  cast(this: Tensor, dtype: DType): Tensor {
    return cast(this, checkDType(dtype));
  },
  /**
   * The tensor on a device or with an element type; itself when nothing changes. To another device it is a copy without
   * history. Throws DeviceError from a device to the CPU: reading back takes time, so that is `await t.toCPU()`.
   */
  to(this: Tensor, target: DeviceName | DType): Tensor {
    return target === "cpu" || target === "webgpu" ? toDevice(this, target) : cast(this, checkDType(target));
  },
  /** A copy on the CPU, without history; itself when it is there. */
  toCPU(this: Tensor): Promise<Tensor> {
    return toCPU(this);
  },
  backward(this: Tensor, gradOutput?: Tensor | null, options?: BackwardOptions): void {
    backward(this, gradOutput, options);
  },
};

type Unaries = { [K in keyof typeof unaryMethods]: () => Tensor };
type Binaries = { [K in keyof typeof binaryMethods]: (other: Tensor | number) => Tensor };
type Others = { [K in keyof typeof otherMethods]: OmitThisParameter<(typeof otherMethods)[K]> };

declare module "./tensor.js" {
  interface Tensor extends Unaries, Binaries, Others {}
}

for (const [name, op] of Object.entries(unaryMethods) as [string, UnaryOp][]) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor) {
      return unary[op]({ x: this }, {});
    },
  });
}
for (const [name, op] of Object.entries(binaryMethods) as [string, BinaryOp][]) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, other: Tensor | number) {
      return binary[op]({ a: this, b: operand(other, this) }, {});
    },
  });
}
for (const [name, value] of Object.entries(otherMethods)) {
  Object.defineProperty(Tensor.prototype, name, { value });
}
