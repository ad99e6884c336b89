import { Tensor } from "../autograd/index.js";
import { isFloating, type NumberArray } from "../base/dtype.js";
import { DeviceError, DTypeError, describeValue, FormatError, OptionError } from "../base/errors.js";
import { checkChoice, unknownName } from "../base/options.js";
import { formatShape, numberOfElements, type Shape } from "../base/shape.js";
import type { StateSource } from "../nn/module.js";
import { type ElementName, elementTypes } from "./elements.js";
import type { FileTensor } from "./tensor_file.js";

/** Named tensors to be written: a module's `stateDict()`, what a file gave, or numbers with a shape. */
export type TensorsToWrite =
  | Readonly<Record<string, StateSource | FileTensor>>
  | ReadonlyMap<string, StateSource | FileTensor>;

/** Which element types the file shall have; without them, those that the tensors have. */
export interface ElementTypes {
  /** For all tensors of its kind: a floating-point type for those of floating point, one of whole numbers for the others. */
  readonly dtype?: ElementName | undefined;
  /** For single tensors, by name: any type. */
  readonly dtypes?: Readonly<Record<string, ElementName>> | undefined;
}

/** These, as readOptions takes them. */
export const elementTypeOptions: { dtype: ElementName | undefined; dtypes: ElementTypes["dtypes"] | undefined } = {
  dtype: undefined,
  dtypes: undefined,
};

/** Throws OptionError for another thing in the place of a path. */
export function checkPath(owner: string, path: unknown): void {
  if (path === undefined || typeof path === "string") return;
  throw new OptionError({
    rule: `${owner} takes the path of the file second, and options third`,
    got: describeValue(path),
    fix: "Write undefined for the path to get the bytes",
  });
}

/** A tensor that was checked and is ready to be written. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: Shape;
  readonly type: ElementName;
  /** The length in bytes. */
  readonly size: number;
  /** Its numbers, little-endian, made anew at each call: not all tensors need to be there twice. */
  readonly bytes: () => Uint8Array;
}

const typeNames = Object.keys(elementTypes) as ElementName[];
const floating = (type: ElementName): boolean => isFloating(elementTypes[type].dtype);

/** The least and the largest number of the types that hold whole numbers. */
const ranges: Readonly<Partial<Record<ElementName, readonly [number, number]>>> = {
  // The last floating-point numbers before 2^63 and 2^64.
  int64: [-(2 ** 63), 2 ** 63 - 1024],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int16: [-(2 ** 15), 2 ** 15 - 1],
  int8: [-128, 127],
  uint64: [0, 2 ** 64 - 2048],
  uint32: [0, 2 ** 32 - 1],
  uint16: [0, 65535],
  uint8: [0, 255],
  bool: [0, 1],
};

/** From where on numbers are rounded to infinity: half a step after the largest. */
const limits: Readonly<Partial<Record<ElementName, number>>> = {
  float16: 65520,
  bfloat16: 2 ** 128 - 2 ** 119,
  float32: 2 ** 128 - 2 ** 103,
};

/**
 * Checks what is to be written. Throws OptionError for another thing than tensors by name and for types that do not exist,
 * DeviceError for tensors that are not on the CPU, FormatError for numbers that their type cannot hold.
 */
export function tensorsToWrite(owner: string, tensors: unknown, { dtype, dtypes }: ElementTypes): TensorToWrite[] {
  if (dtype !== undefined) checkChoice("dtype", dtype, typeNames);
  const entries = entriesOf(owner, tensors);
  const names = entries.map(([name]) => name);
  for (const [name, type] of Object.entries(dtypes ?? {})) {
    if (!names.includes(name)) throw unknownName("dtypes names tensors that are written", name, names);
    checkChoice(`The dtype of ${name}`, type, typeNames);
  }
  return entries.map(([name, given]) => {
    const { shape, data, type: own } = numbersOf(owner, name, given);
    const wanted = dtype !== undefined && floating(dtype) === floating(own) ? dtype : own;
    const type = dtypes && Object.hasOwn(dtypes, name) ? dtypes[name]! : wanted;
    checkRange(name, type, own, data);
    const { bytes, encode } = elementTypes[type];
    return { name, shape, type, size: data.length * bytes, bytes: () => encode(data) };
  });
}

/** What the files of those who write end in, for their errors. */
const endings: Readonly<Record<string, string>> = {
  saveFlax: "msgpack",
  saveKerasWeights: "weights.h5",
  saveNpz: "npz",
  saveTfjs: "json",
};

function entriesOf(owner: string, tensors: unknown): [string, unknown][] {
  const rule = `${owner} takes tensors by name first, then the path`;
  const fix = `Write ${owner}(model.stateDict(), "model.${endings[owner] ?? "safetensors"}")`;
  const plain =
    tensors !== null && typeof tensors === "object" && !Array.isArray(tensors) && !ArrayBuffer.isView(tensors);
  if (!plain || tensors instanceof Tensor || "stateDict" in tensors) {
    const got = typeof tensors === "string" ? JSON.stringify(tensors) : describeValue(tensors);
    throw new OptionError({ rule, got: plain && !(tensors instanceof Tensor) ? "a module" : got, fix });
  }
  const entries: [unknown, unknown][] = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  for (const [name] of entries) {
    // Half of a surrogate pair has no UTF-8.
    if (typeof name === "string" && !/\p{Surrogate}/u.test(name)) continue;
    throw new OptionError({ rule: "A tensor's name is well-formed text", got: JSON.stringify(name) ?? String(name) });
  }
  return entries as [string, unknown][];
}

interface Numbers {
  readonly shape: Shape;
  readonly data: NumberArray | readonly number[];
  readonly type: ElementName;
}

function numbersOf(owner: string, name: string, given: unknown): Numbers {
  if (given instanceof Tensor) {
    if (given.device !== "cpu") {
      throw new DeviceError({
        rule: `${owner} writes tensors on the CPU`,
        got: `${name} on ${given.device}`,
        fix: "Save await model.stateDictAsync()",
      });
    }
    // The CPU has no float16 of its own.
    return { shape: given.shape, data: given.storage.view, type: given.dtype as ElementName };
  }
  const { shape, data, type } = (given ?? {}) as Partial<FileTensor>;
  const isNumbers = Array.isArray(data) || ["float32", "float64", "int32"].includes(naturalType(data) ?? "");
  if (!Array.isArray(shape) || !isNumbers) {
    const fix = "Make one with tensor(data)";
    throw new DTypeError({
      rule: `${owner} takes tensors, or { shape, data }`,
      got: `${name}: ${describeValue(given)}`,
      fix,
    });
  }
  if (numberOfElements(shape) !== data!.length) {
    const rule = `Shape ${formatShape(shape)} of ${name} holds ${numberOfElements(shape)} numbers`;
    throw new FormatError({ rule, got: String(data!.length) });
  }
  if (type !== undefined) checkChoice(`The type of ${name}`, type, typeNames);
  return { shape, data: data!, type: type ?? naturalType(data) ?? "float32" };
}

function naturalType(data: unknown): ElementName | undefined {
  if (data instanceof Float64Array) return "float64";
  if (data instanceof Int32Array) return "int32";
  return data instanceof Float32Array ? "float32" : undefined;
}

function checkRange(name: string, type: ElementName, own: ElementName, data: ArrayLike<number>): void {
  const limit = limits[type];
  if (limit !== undefined && type !== own) {
    for (let i = 0; i < data.length; i++) {
      const v = data[i]!;
      if (Math.abs(v) < limit || !Number.isFinite(v)) continue;
      throw new FormatError({
        rule: `${type} holds numbers below ${limit}, and makes others infinite`,
        got: `${v} at place ${i} of ${name}`,
        fix: "Choose another type for it with dtypes",
      });
    }
  }
  const range = ranges[type];
  if (!range || (type === own && data instanceof Int32Array && (type === "int32" || type === "int64"))) return;
  const [least, most] = range;
  for (let i = 0; i < data.length; i++) {
    const v = data[i]!;
    if (Number.isInteger(v) && v >= least && v <= most) continue;
    throw new FormatError({
      rule: `${type} holds whole numbers from ${least} to ${most}`,
      got: `${v} at place ${i} of ${name}`,
      fix: "Choose another type for it with dtypes",
    });
  }
}
