import { Tensor, tensor } from "../../autograd/index.js";
import type { DType, NumberArray } from "../../base/dtype.js";
import { DeviceError, FormatError, OptionError } from "../../base/errors.js";
import type { Shape } from "../../base/shape.js";
import type { CheckpointContent, NamedArray } from "./format.js";

/** Keys that stand for what JSON cannot hold: the place of a tensor or typed array; NaN, infinities and -0. */
const TENSOR = "$tensor";
const ARRAY = "$array";
const NUMBER = "$number";

const isNumberArray = (value: unknown): value is NumberArray =>
  value instanceof Float32Array || value instanceof Float64Array || value instanceof Int32Array;

/**
 * Takes a state apart into JSON and named arrays. It may hold plain objects, arrays, Maps with text keys, texts,
 * numbers, booleans, null, tensors and typed arrays. Throws OptionError for anything else, DeviceError for a tensor on
 * another device than the CPU.
 */
export function pack(state: unknown): CheckpointContent {
  return takeApart(state, (t, path) => {
    if (t.device === "cpu") return t.dataSync();
    throw new DeviceError({
      rule: "What lies on another device than the CPU has to be waited for when it is saved",
      got: `${path} on ${t.device}`,
      fix: "Use await saveCheckpointAsync(path, parts)",
    });
  });
}

/** The same for tensors on any device: their numbers as they are now, whatever is asked of the device next. */
export async function packAsync(state: unknown): Promise<CheckpointContent> {
  const { meta, arrays } = takeApart(state, (t) => {
    const reading = t.data();
    // Where another part cannot be saved nobody waits for this one.
    reading.catch(() => {});
    return reading;
  });
  return { meta, arrays: await Promise.all(arrays.map(async ({ data, ...rest }) => ({ ...rest, data: await data }))) };
}

type Taken<D> = Omit<NamedArray, "data"> & { readonly data: D | NumberArray };

/** `read` gives the numbers of a tensor, or what they can be waited for with. */
function takeApart<D>(
  state: unknown,
  read: (t: Tensor, path: string) => D,
): { meta: unknown; arrays: readonly Taken<D>[] } {
  const arrays: Taken<D>[] = [];
  const place = (key: string, name: string, shape: Shape, dtype: DType, data: D | NumberArray): object => {
    arrays.push({ name, dtype, shape, data });
    return { [key]: arrays.length - 1 };
  };
  const walk = (value: unknown, path: string): unknown => {
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    if (typeof value === "number") {
      // JSON turns -0 into 0 and the others into null.
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { [NUMBER]: Object.is(value, -0) ? "-0" : `${value}` };
    }
    if (value instanceof Tensor) return place(TENSOR, path, value.shape, value.dtype, read(value, path));
    if (isNumberArray(value)) return place(ARRAY, path, [value.length], dtypeOf(value), value);
    if (Array.isArray(value)) return value.map((item, i) => walk(item, `${path}/${i}`));
    const entries = value instanceof Map ? [...value] : isPlain(value) ? Object.entries(value) : null;
    if (!entries) throw cannotSave(path, Object.prototype.toString.call(value));
    const result: Record<string, unknown> = {};
    for (const [key, item] of entries) {
      if (typeof key !== "string" || key.startsWith("$")) throw cannotSave(path, `the key ${String(key)}`);
      if (item !== undefined) result[key] = walk(item, path ? `${path}/${key}` : key);
    }
    return result;
  };
  return { meta: walk(state, ""), arrays };
}

const dtypeOf = (data: NumberArray): DType =>
  data instanceof Float32Array ? "float32" : data instanceof Float64Array ? "float64" : "int32";

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value));

const cannotSave = (path: string, got: string): OptionError =>
  new OptionError({
    rule: "A checkpoint holds plain objects, arrays, Maps, texts, numbers, booleans, null, tensors and typed arrays",
    got: `${got} at ${path || "the top"}`,
  });

/** Puts together what `pack` took apart. The tensors are new ones, of the scope that is open. */
export function unpack({ meta, arrays }: CheckpointContent): unknown {
  const arrayAt = (index: unknown): NamedArray => {
    const array = arrays[index as number];
    if (array) return array;
    throw new FormatError({ rule: "A checkpoint's arrays are all in it", got: `one that lacks array ${index}` });
  };
  const made = (index: unknown): Tensor => {
    const { data, shape, dtype } = arrayAt(index);
    return tensor(data, { shape, dtype });
  };
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk);
    if (value === null || typeof value !== "object") return value;
    if (TENSOR in value) return made(value[TENSOR]);
    if (ARRAY in value) return arrayAt(value[ARRAY]).data;
    if (NUMBER in value) return Number(value[NUMBER]);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(item)]));
  };
  return walk(meta);
}
