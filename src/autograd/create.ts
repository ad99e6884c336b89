import { checkDType, type DType, isFloating, type NumberArray } from "../base/dtype.js";
import { DTypeError, ShapeError } from "../base/errors.js";
import { readOptions } from "../base/options.js";
import { globalRandom, type Random } from "../base/random.js";
import { checkShape, formatShape, numberOfElements, type Shape } from "../base/shape.js";
import { kernels } from "../kernels/dispatch.js";
import { everyTime } from "../kernels/tape.js";
import { heap } from "../memory/heap.js";
import { checkDevice } from "./methods.js";
import { type NestedArray, Tensor } from "./tensor.js";

export interface TensorOptions {
  readonly dtype?: DType;
  readonly device?: "cpu";
  readonly requiresGrad?: boolean;
}

interface DataOptions extends TensorOptions {
  readonly shape?: Shape;
}

function optionsOf(owner: string, options: TensorOptions | undefined): Required<TensorOptions> {
  const o = readOptions(owner, options, { dtype: "float32" as DType, device: "cpu" as const, requiresGrad: false });
  checkDType(o.dtype);
  checkDevice(o.device);
  return o;
}

function made(t: Tensor, requiresGrad: boolean): Tensor {
  if (requiresGrad) t.requiresGrad = true;
  return t;
}

/** A tensor whose numbers JavaScript writes, anew each time where a captured step is repeated. */
export function written(shape: Shape, dtype: DType, write: (to: NumberArray) => void): Tensor {
  const t = Tensor.empty(shape, dtype);
  const { storage } = t;
  everyTime(() => write(heap.view(storage)));
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
    device: "cpu" as const,
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
  const t = written([...shape], dtype, (view) => {
    if (ArrayBuffer.isView(data)) view.set(data);
    else fillFrom(data as NestedArray, found, 0, view, 0);
  });
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
  const { dtype, requiresGrad } = optionsOf("full", options);
  const t = Tensor.empty([...shape], dtype);
  kernels.fill(t.storage, value);
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
  const { dtype, requiresGrad } = optionsOf("arange", options);
  const t = written([n], dtype, (view) => {
    for (let i = 0; i < n; i++) view[i] = from + i * step;
  });
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
  const { dtype, requiresGrad } = optionsOf(owner, rest);
  if (!isFloating(dtype)) throw new DTypeError({ rule: `${owner} makes float32 or float64`, got: dtype });
  const t = written([...shape], dtype, (view) => {
    for (let i = 0; i < view.length; i++) view[i] = draw(random);
  });
  return made(t, requiresGrad);
}

/** Normal values with mean 0 and standard deviation 1. */
export const randn = (shape: Shape, options?: RandomOptions): Tensor =>
  drawn("randn", shape, options, (random) => random.normal());

/** Uniform values in [0, 1). */
export const rand = (shape: Shape, options?: RandomOptions): Tensor =>
  drawn("rand", shape, options, (random) => random.uniform());
