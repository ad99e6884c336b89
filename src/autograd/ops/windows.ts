import { OptionError, ShapeError } from "../../base/errors.js";
import { formatShape, type Shape } from "../../base/shape.js";
import type { PoolPlan, Triple } from "../../kernels/kernel_set.js";
import type { Tensor } from "../tensor.js";

/** One number for all spatial axes, or a list with one for each. */
export type PerAxis = number | readonly number[];

/** `value` as one whole number for each of `axes` spatial axes. Throws OptionError for anything else. */
export function perAxis(what: string, value: unknown, axes: number, minimum: number): number[] {
  const list = typeof value === "number" ? new Array<number>(axes).fill(value) : value;
  const good = Array.isArray(list) && list.length === axes && list.every((v) => Number.isInteger(v) && v >= minimum);
  if (!good) {
    throw new OptionError({
      rule: `${what} must be a whole number of at least ${minimum}${axes > 1 ? `, or a list of ${axes}` : ""}`,
      got: Array.isArray(value) ? formatShape(value as Shape) : String(value),
    });
  }
  return [...(list as number[])];
}

/** Depth, height and width; axes that are missing in front count as `fill`. */
export function triple(values: readonly number[], fill: number): Triple {
  const missing = new Array<number>(3 - values.length).fill(fill);
  return [...missing, ...values] as unknown as Triple;
}

export interface Windows {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

const axisNames = ["length", "height and width", "depth, height and width"];
export const spatialNames = (axes: number): string => axisNames[axes - 1]!;

/**
 * How many windows fit along each axis: floor((input + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
 * With `ceil` a last window may hang over the end, if it begins inside the input or the padding before it.
 * Throws ShapeError when not one fits.
 */
export function windowCounts(owner: string, input: readonly number[], w: Windows, ceil = false): number[] {
  const reach = w.kernel.map((k, i) => w.dilation[i]! * (k - 1) + 1);
  const counts = input.map((n, i) => {
    const room = n + 2 * w.padding[i]! - reach[i]!;
    const stride = w.stride[i]!;
    if (!ceil) return Math.floor(room / stride) + 1;
    const count = Math.ceil(room / stride) + 1;
    return (count - 1) * stride >= n + w.padding[i]! ? count - 1 : count;
  });
  if (counts.some((c) => c < 1)) {
    throw new ShapeError({
      rule: `${owner} needs an input that its window fits into: ${formatShape(reach)} with dilation`,
      got: `${spatialNames(input.length)} ${formatShape(input)} with padding ${formatShape(w.padding)}`,
      fix: "Use a smaller kernel, more padding, or less pooling before it",
    });
  }
  return counts;
}

/**
 * x as a batch [N, C, ...spatial] for an op over `axes` spatial axes; one sample without N is taken too.
 * Throws ShapeError for any other rank.
 */
export function batched(owner: string, x: Tensor, axes: number): { x: Tensor; single: boolean } {
  if (x.rank === axes + 2) return { x, single: false };
  if (x.rank === axes + 1) return { x: x.reshape([1, ...x.shape]), single: true };
  throw new ShapeError({
    rule: `${owner} takes [batch, channels, ${spatialNames(axes)}], or the same without batch`,
    got: formatShape(x.shape),
    fix: x.rank < axes + 1 ? "Reshape it so that channels and each spatial axis have a place" : "Flatten leading axes",
  });
}

/** Takes away the batch axis that `batched` added. */
export const unbatched = (y: Tensor, single: boolean): Tensor => (single ? y.reshape(y.shape.slice(1)) : y);

export interface PoolOptions {
  /** Distance between windows. Default: the kernel size, so that windows lie side by side. */
  readonly stride?: PerAxis | undefined;
  /** Positions added on both sides, at most half the kernel. Default 0. */
  readonly padding?: PerAxis;
  /** Distance between the elements of a window. Default 1. */
  readonly dilation?: PerAxis;
  /** Round the number of windows up instead of down. Default false. */
  readonly ceilMode?: boolean;
}

/** The plan of a pooling over the last axes of x, and the shape of its result. */
export function poolPlan(
  owner: string,
  x: Tensor,
  kernelSize: PerAxis,
  axes: number,
  options: PoolOptions & { readonly countIncludePad?: boolean },
): { plan: PoolPlan; shape: number[] } {
  const kernel = perAxis(`${owner} kernelSize`, kernelSize, axes, 1);
  const windows: Windows = {
    kernel,
    stride: perAxis(`${owner} stride`, options.stride ?? kernel, axes, 1),
    padding: perAxis(`${owner} padding`, options.padding ?? 0, axes, 0),
    dilation: perAxis(`${owner} dilation`, options.dilation ?? 1, axes, 1),
  };
  if (windows.padding.some((p, i) => p > kernel[i]! / 2)) {
    throw new OptionError({
      rule: `${owner} padding must be at most half the kernel, so that no window holds padding alone`,
      got: `padding ${formatShape(windows.padding)} for kernel ${formatShape(kernel)}`,
    });
  }
  const input = x.shape.slice(2);
  const output = windowCounts(owner, input, windows, options.ceilMode ?? false);
  const plan: PoolPlan = {
    planes: x.shape[0]! * x.shape[1]!,
    input: triple(input, 1),
    output: triple(output, 1),
    kernel: triple(kernel, 1),
    stride: triple(windows.stride, 1),
    padding: triple(windows.padding, 0),
    dilation: triple(windows.dilation, 1),
    countIncludePad: options.countIncludePad ?? true,
  };
  return { plan, shape: [...x.shape.slice(0, 2), ...output] };
}
