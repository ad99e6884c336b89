import { elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import { type Complaining, type Meaning, Named, type Pickled, safer, Unread } from "./pickle.js";

/** Numbers of one type in an entry of the file, which tensors are views of. */
export class StoredNumbers {
  constructor(
    readonly type: ElementName,
    readonly key: string,
    /** How many elements. */
    readonly length: number,
  ) {}
}

/** A tensor: a view of stored numbers, checked to lie within them. Steps and offset are in elements. */
export class StoredTensor {
  constructor(
    readonly storage: StoredNumbers,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    /** One more than the last place that it has in the storage. */
    readonly end: number,
  ) {}
}

const storageTypes = new Map<string, ElementName>([
  ["torch.DoubleStorage", "float64"],
  ["torch.FloatStorage", "float32"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.LongStorage", "int64"],
  ["torch.IntStorage", "int32"],
  ["torch.ShortStorage", "int16"],
  ["torch.CharStorage", "int8"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
]);

const dtypes = new Set(Object.keys(elementTypes).map((type) => `torch.${type}`));

type Call = (args: readonly Pickled[], wrong: Complaining, file: string) => Pickled;

const ofTensor: Call = ([tensor], wrong) => {
  if (tensor instanceof StoredTensor || tensor instanceof Unread) return tensor;
  throw wrong("A parameter is made of a tensor", "something else");
};

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const tensorOf: Call = ([storage, offset, shape, strides], wrong, file) => {
  // Of a type that is not read: complex numbers, say.
  if (storage instanceof Unread) return storage;
  if (!(storage instanceof StoredNumbers) || !isWhole(offset) || !Array.isArray(shape) || !Array.isArray(strides)) {
    throw wrong("A tensor is made of a storage, an offset, a shape and strides", "something else");
  }
  // An expanded tensor (stride 0) could make any number of elements of one.
  const size = elementsWithin(shape, storage.length, file, `storage ${JSON.stringify(storage.key)}`);
  if (strides.length !== shape.length || !strides.every(isWhole)) {
    throw wrong("Strides are whole numbers, one for each axis", `[${strides.join(", ")}] for [${shape.join(", ")}]`);
  }
  // PyTorch saves an empty view with its offset, which may lie beyond the storage.
  if (size === 0) return new StoredTensor(storage, 0, shape, strides, 0);
  const end = offset + 1 + shape.reduce((sum, extent, axis) => sum + (extent - 1) * strides[axis]!, 0);
  if (end > storage.length) {
    throw wrong("A tensor lies within its storage", `${end} elements of ${storage.length}`, "The file is damaged");
  }
  return new StoredTensor(storage, offset, shape, strides, end);
};

/** What may be called, and what comes of it: no code of the file's. */
const calls = new Map<string, Call>([
  [
    "collections.OrderedDict",
    (args, wrong) => {
      if (args.length === 0) return new Map();
      throw wrong("An OrderedDict is made empty", `${args.length} arguments`);
    },
  ],
  [
    "torch.Size",
    ([shape], wrong) => {
      if (Array.isArray(shape)) return shape;
      throw wrong("torch.Size takes a tuple", "something else");
    },
  ],
  ["torch._utils._rebuild_tensor", tensorOf],
  ["torch._utils._rebuild_tensor_v2", tensorOf],
  ["torch._utils._rebuild_parameter", ofTensor],
  ["torch._utils._rebuild_parameter_with_state", ofTensor],
]);

/** The names of torch.save's pickles, for the checkpoint `file`. */
export function torchMeaning(file: string): Meaning {
  return {
    isKnown: (name) => calls.has(name) || storageTypes.has(name) || dtypes.has(name),
    call: (name, args, wrong) => {
      const call = calls.get(name);
      if (!call) throw wrong("Functions that make tensors are called", name, safer);
      return call(args, wrong, file);
    },
    persistent: (id, wrong) => {
      const [kind, named, key, , length] = Array.isArray(id) ? (id as readonly Pickled[]) : [];
      if (kind === "storage" && named instanceof Unread) return named;
      const type = named instanceof Named ? storageTypes.get(named.name) : undefined;
      if (kind !== "storage" || type === undefined || typeof key !== "string" || !isWhole(length)) {
        throw wrong("Numbers are named by storage, type, key, place and length", "something else");
      }
      return new StoredNumbers(type, key, length);
    },
  };
}
