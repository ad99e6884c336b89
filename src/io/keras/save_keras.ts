import { writeFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { readOptions } from "../../base/options.js";
import { type ElementName, elementTypes } from "../elements.js";
import { type ElementTypes, type TensorsToWrite, type TensorToWrite, tensorsToWrite } from "../tensors_to_write.js";
import { type Hdf5, hdf5 } from "./hdf5.js";
import type { NewDataset } from "./hdf5_messages.js";

/** h5wasm writes floats of 4 and 8 bytes, and whole numbers; what it does not write becomes the next larger that it does. */
const stored: Readonly<Partial<Record<ElementName, ElementName>>> = {
  float16: "float32",
  bfloat16: "float32",
  bool: "uint8",
};

/** Keras looks for a model's own variables before it looks for those of its layers, and refuses a file without their group. */
const OWN = "vars";

/**
 * Writes tensors as the HDF5 file that Keras 3 keeps weights in: "layers/dense/vars/0" becomes the dataset 0 in a group in a group.
 * `model.load_weights` takes it from a path that ends in ".weights.h5". Gives the bytes, or with a path writes the file, whole or
 * not at all, and gives its size. Throws OptionError for names that cannot be, DeviceError without h5wasm, FileError.
 */
export function saveKerasWeights(
  tensors: TensorsToWrite,
  path?: undefined,
  options?: ElementTypes,
): Promise<Uint8Array>;
export function saveKerasWeights(tensors: TensorsToWrite, path: string, options?: ElementTypes): Promise<number>;
export async function saveKerasWeights(
  tensors: TensorsToWrite,
  path?: string,
  options?: ElementTypes,
): Promise<Uint8Array | number> {
  const types = readOptions("saveKerasWeights", options, {
    dtype: undefined,
    dtypes: undefined,
  } as unknown as ElementTypes);
  const whole = await kerasWeights(hdf5, tensorsToWrite("saveKerasWeights", tensors, types));
  return path === undefined ? whole : writeFile(path, [whole]);
}

async function kerasWeights(worker: Hdf5, list: readonly TensorToWrite[]): Promise<Uint8Array> {
  const groups = new Set([OWN]);
  for (const { name } of list) {
    const parts = name.split("/");
    if (parts.some((part) => part === "" || part === "." || part === ".." || part.includes("\0"))) {
      throw nameError("Names are groups within groups: texts with one / between them", name);
    }
    for (let end = 1; end < parts.length; end++) groups.add(parts.slice(0, end).join("/"));
  }
  const both = list.find(({ name }) => groups.has(name));
  if (both) throw nameError("No name is the beginning of another up to a /", both.name);
  return worker.write({ groups: [...groups], datasets: list.map(datasetOf) });
}

const nameError = (rule: string, name: string): OptionError =>
  new OptionError({ rule, got: JSON.stringify(name), fix: "Rename it" });

function datasetOf({ name, shape, type, bytes }: TensorToWrite): NewDataset {
  const own = stored[type] ?? type;
  const { decode } = elementTypes[type];
  const numbers = own === type ? bytes() : elementTypes[own].encode(decode(bytes(), "saveKerasWeights", name));
  const kind = own.startsWith("float") ? 1 : 0;
  return {
    path: name,
    shape,
    kind,
    elementBytes: elementTypes[own].bytes,
    signed: own.startsWith("int"),
    bytes: numbers,
  };
}
