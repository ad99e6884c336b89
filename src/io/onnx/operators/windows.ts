import type { Tensor } from "../../../autograd/index.js";
import { ShapeError } from "../../../base/errors.js";
import { formatShape } from "../../../base/shape.js";
import { ints, optional, text } from "../attributes.js";
import { type Call, oneOf } from "../call.js";
import { checkRoom } from "../value.js";

/** Attributes that convolutions and pools share. */
export const windowAttributes = {
  auto_pad: text("NOTSET"),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
} as const;

export const dilations = optional("ints");

/** Where windows lie along each spatial axis; pads are [before, after]. */
export interface Windows {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly pads: readonly (readonly [number, number])[];
}

/** How far a window reaches along each axis. */
export const reachOf = ({ kernel, dilation }: Pick<Windows, "kernel" | "dilation">): number[] =>
  kernel.map((k, i) => dilation[i]! * (k - 1) + 1);

export function spatialAxes(x: Tensor): number {
  const axes = x.rank - 2;
  if (axes >= 1 && axes <= 3) return axes;
  const rule = "Windows slide over 1 to 3 spatial axes of [N, C, ...]";
  throw new ShapeError({ rule, got: formatShape(x.shape) });
}

/** A list attribute with one whole number for each axis (twice as many for pads). */
export function perAxis(call: Call, name: string, count: number, fallback: number, least: number): number[] {
  const given = call.ints(name);
  if (given === null || (given.length === 0 && count > 0)) return new Array<number>(count).fill(fallback);
  if (given.length === count && given.every((v) => v >= least && v < 2 ** 31)) return given;
  const rule = `${name} has ${count} whole numbers of at least ${least}`;
  throw new ShapeError({ rule, got: formatShape(given) });
}

export function autoPadOf(call: Call): "NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID" {
  return oneOf("auto_pad", call.text("auto_pad"), ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]);
}

export function pairs(pads: readonly number[]): [number, number][] {
  const axes = pads.length / 2;
  return Array.from({ length: axes }, (_, i) => [pads[i]!, pads[i + axes]!]);
}

/** Half of an amount before and half behind; what is left of an odd one goes behind for SAME_UPPER. */
export function shared(total: number, upper: boolean): [number, number] {
  const less = Math.floor(total / 2);
  return upper ? [less, total - less] : [total - less, less];
}

/** The windows of a node over x, with pads worked out where it leaves them to auto_pad. */
export function windowsOf(call: Call, x: Tensor, kernelShape: readonly number[] | null): Windows {
  const axes = spatialAxes(x);
  const kernel = perAxis(call, "kernel_shape", axes, 1, 1);
  const given = call.ints("kernel_shape");
  if (kernelShape && given && given.length > 0 && kernel.some((k, i) => k !== kernelShape[i])) {
    const rule = `kernel_shape is that of the weight, ${formatShape(kernelShape)}`;
    throw new ShapeError({ rule, got: formatShape(kernel) });
  }
  const partial = {
    kernel: kernelShape ?? kernel,
    stride: perAxis(call, "strides", axes, 1, 1),
    dilation: perAxis(call, "dilations", axes, 1, 1),
  };
  const auto = autoPadOf(call);
  if (auto === "NOTSET") return { ...partial, pads: pairs(perAxis(call, "pads", 2 * axes, 0, 0)) };
  if (auto === "VALID") return { ...partial, pads: partial.kernel.map(() => [0, 0] as const) };
  const reach = reachOf(partial);
  const pads = reach.map((r, i) => {
    const [length, stride] = [x.shape[i + 2]!, partial.stride[i]!];
    const total = Math.max(0, (Math.ceil(length / stride) - 1) * stride + r - length);
    return shared(total, auto === "SAME_UPPER");
  });
  return { ...partial, pads };
}

export const symmetric = (pads: Windows["pads"]): boolean => pads.every(([before, after]) => before === after);

/** x with borders along its spatial axes. */
export function padSpatial(x: Tensor, pads: Windows["pads"], value = 0): Tensor {
  if (pads.every(([b, a]) => b === 0 && a === 0)) return x;
  checkRoom(x.shape.map((d, i) => d + (pads[i - 2]?.[0] ?? 0) + (pads[i - 2]?.[1] ?? 0)));
  return x.pad([[0, 0], [0, 0], ...pads], value);
}
