import "./methods.js";
import { checkDType, type DType, isFloating, type NumberArray } from "../base/dtype.js";
import { DTypeError, ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { globalRandom, type Random } from "../base/random.js";
import { checkShape, formatShape, numberOfElements, type Shape } from "../base/shape.js";
import { kernels } from "../kernels/dispatch.js";
import { currentDevice, type DeviceName, onDevice } from "../memory/device.js";
import { checkDevice } from "./check_device.js";
import { type NestedArray, Tensor } from "./tensor.js";
import { written } from "./written.js";

export interface TensorOptions {
  readonly dtype?: DType;
  readonly device?: DeviceName;
  readonly requiresGrad?: boolean;
}

interface DataOptions extends TensorOptions {
  readonly shape?: Shape;
}

function optionsOf(owner: string, options: TensorOptions | undefined): Required<TensorOptions> {
  const o = readOptions(owner, options, { dtype: "float32" as DType, device: currentDevice(), requiresGrad: false });
  checkDType(o.dtype);
  checkDevice(o.device);
  return o;
}

function made(t: Tensor, requiresGrad: boolean): Tensor {
  if (requiresGrad) t.requiresGrad = true;
  return t;
}

/**
 * A tensor from numbers: nested arrays (their depth gives the shape), or a typed array (with `shape`, else rank 1).
 * The type is float32 unless `dtype` says otherwise or the data is a Float64Array or Int32Array.
 * Throws ShapeError for ragged nesting or a shape that does not hold the data.
 */
export function tensor(data: NestedArray | NumberArray | readonly number[], options?: DataOptions): Tensor {
  const { shape: wanted, ...rest } = readOptions("tensor", options, {
    shape: undefined as Shape | undefined,
    dtype: undefined as DType | undefined,
    device: currentDevice(),
    requiresGrad: false,
  });
  checkDevice(rest.device);
  const dtype = checkDType(rest.dtype ?? naturalType(data));
  if (wanted) checkShape(wanted);
  const found = ArrayBuffer.isView(data) ? [data.length] : shapeOf(data as NestedArray);
  const shape = wanted ?? found;
  if (numberOfElements(found) !== numberOfElements(shape)) {
    throw new ShapeError({
      rule: `Shape ${formatShape(shape)} holds ${numberOfElements(shape)} numbers`,
      got: String(numberOfElements(found)),
    });
  }
  const write = (view: NumberArray) => {
    if (ArrayBuffer.isView(data)) view.set(data);
    else fillFrom(data as NestedArray, found, 0, view, 0);
  };
  const t = written([...shape], dtype, write, rest.device);
  return made(t, rest.requiresGrad);
}

function naturalType(data: unknown): DType {
  if (data instanceof Float64Array) return "float64";
  if (data instanceof Int32Array) return "int32";
  return "float32";
}

function shapeOf(data: NestedArray): number[] {
  const shape: number[] = [];
  for (let d: NestedArray | undefined = data; Array.isArray(d); d = d[0]) shape.push(d.length);
  return shape;
}

function fillFrom(data: NestedArray, shape: Shape, axis: number, out: NumberArray, at: number): number {
  if (axis === shape.length) {
    if (typeof data !== "number") {
      throw new DTypeError({
        rule: "A tensor is made of numbers, nested to one depth everywhere",
        got: Array.isArray(data) ? "deeper nesting in one place" : typeof data,
      });
    }
    out[at] = data;
    return at + 1;
  }
  if (!Array.isArray(data) || data.length !== shape[axis]) {
    throw new ShapeError({
      rule: `Nested arrays must have one length along each axis; axis ${axis} begins with ${shape[axis]}`,
      got: Array.isArray(data) ? String(data.length) : "a number",
    });
  }
  for (const item of data) at = fillFrom(item, shape, axis + 1, out, at);
  return at;
}

/** A tensor filled with one value. */
export function full(shape: Shape, value: number, options?: TensorOptions): Tensor {
  checkShape(shape);
  const { dtype, device, requiresGrad } = optionsOf("full", options);
  const t = onDevice(device, () => {
    const filled = Tensor.empty([...shape], dtype);
    kernels.fill(filled.storage, value);
    return filled;
  });
  return made(t, requiresGrad);
}

export const zeros = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 0, options);
export const ones = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 1, options);

/** start, start + step, ... below stop; with one argument 0 .. stop-1. float32 unless `dtype` says otherwise. */
export function arange(
  start: number,
  stop?: number | TensorOptions,
  step: number | TensorOptions = 1,
  options?: TensorOptions,
): Tensor {
  if (typeof stop === "object") return arange(0, start, 1, stop);
  if (typeof step === "object") return arange(start, stop, 1, step);
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0 || ![from, to, step].every(Number.isFinite)) {
    throw new ShapeError({
      rule: "arange takes finite bounds and a step other than 0",
      got: `${from}, ${to}, ${step}`,
    });
  }
  const n = Math.max(0, Math.ceil((to - from) / step));
  const { dtype, device, requiresGrad } = optionsOf("arange", options);
  const write = (view: NumberArray) => {
    for (let i = 0; i < n; i++) view[i] = from + i * step;
  };
  const t = written([n], dtype, write, device);
  return made(t, requiresGrad);
}

interface RandomOptions extends TensorOptions {
  /** Where the numbers come from; the generator that `manualSeed` seeds unless given. */
  readonly random?: Random;
}

function drawn(
  owner: string,
  shape: Shape,
  options: RandomOptions | undefined,
  draw: (random: Random) => number,
): Tensor {
  checkShape(shape);
  const { random = globalRandom, ...rest } = options ?? {};
  const { dtype, device, requiresGrad } = optionsOf(owner, rest);
  if (!isFloating(dtype)) throw new DTypeError({ rule: `${owner} makes float32 or float64`, got: dtype });
  const write = (view: NumberArray) => {
    for (let i = 0; i < view.length; i++) view[i] = draw(random);
  };
  const t = written([...shape], dtype, write, device);
  return made(t, requiresGrad);
}

/** Normal values with mean 0 and standard deviation 1. */
export const randn = (shape: Shape, options?: RandomOptions): Tensor =>
  drawn("randn", shape, options, (random) => random.normal());

/** Uniform values in [0, 1). */
export const rand = (shape: Shape, options?: RandomOptions): Tensor =>
  drawn("rand", shape, options, (random) => random.uniform());
