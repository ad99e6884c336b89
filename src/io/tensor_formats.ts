import { FormatError, OptionError } from "../base/errors.js";
import { openFlax } from "./flax/open_flax.js";
import { saveFlax } from "./flax/save_flax.js";
import { openKeras } from "./keras/open_keras.js";
import { saveKerasWeights } from "./keras/save_keras.js";
import { openNpz } from "./numpy/read.js";
import { saveNpz } from "./numpy/write.js";
import { openSafetensors } from "./safetensors/read.js";
import { saveSafetensors } from "./safetensors/write.js";
import type { FileTensor, TensorFile } from "./tensor_file.js";
import { openTfjs, type TfjsFile } from "./tfjs_files/open_tfjs.js";
import { saveTfjs } from "./tfjs_files/save_tfjs.js";
import { openTorch } from "./torch/read.js";

type Tensors = ReadonlyMap<string, FileTensor>;

/** A format of named tensors, by the endings of its files' names. */
interface TensorFormat {
  readonly name: string;
  readonly endings: readonly string[];
  /** `key`: a part of it, where a format has such. */
  readonly open?: (path: string, key?: string) => Promise<TensorFile>;
  /** `like` is a file of this format, whose configuration the new one takes over. */
  readonly save?: (tensors: Tensors, path: string, like: TensorFile | null) => unknown;
}

const formats: readonly TensorFormat[] = [
  {
    name: "safetensors",
    endings: [".safetensors", ".safetensors.index.json"],
    open: (path) => openSafetensors(path),
  },
  {
    name: "safetensors",
    endings: [".safetensors"],
    // What libraries around PyTorch look for.
    save: (tensors, path) => saveSafetensors(tensors, path, { metadata: { format: "pt" } }),
  },
  { name: "npz", endings: [".npz"], open: (path) => openNpz(path), save: (tensors, path) => saveNpz(tensors, path) },
  { name: "PyTorch", endings: [".pt", ".pth", ".bin", ".ckpt"], open: openPart },
  {
    name: "Flax",
    endings: [".msgpack"],
    open: (path) => openFlax(path),
    save: (tensors, path) => saveFlax(tensors, path),
  },
  { name: "Keras", endings: [".weights.h5", ".keras", ".h5", ".hdf5"], open: (path) => openKeras(path) },
  { name: "Keras", endings: [".weights.h5"], save: saveNumbered },
  { name: "TensorFlow.js", endings: [".json"], open: (path) => openTfjs(path), save: saveLike },
];

function openPart(path: string, key?: string): Promise<TensorFile> {
  return openTorch(path, key === undefined ? {} : { key });
}

/** Keras 3 finds weights by the classes and numbers of layers, which a model's own file tells and nothing else. */
function saveNumbered(tensors: Tensors, path: string): Promise<number> {
  const named = [...tensors.keys()].find((name) => !/(^|\/)vars\/\d+$/.test(name));
  if (named === undefined) return saveKerasWeights(tensors, path);
  throw new FormatError({
    rule: "Keras 3 numbers the tensors of its layers, as layers/dense/vars/0",
    got: `${named} for ${path}`,
    fix: "Convert with a file that the model itself saved as the template (--template), or write another format",
  });
}

/** With a model's configuration TensorFlow.js loads the file as that model. */
function saveLike(tensors: Tensors, path: string, like: TensorFile | null): number {
  const topology = like !== null && like.format === "tfjs" ? (like as TfjsFile).config : null;
  return saveTfjs(tensors, path, topology === null ? {} : { topology });
}

/** Endings of the formats that can be read, or written, with commas between. */
export const endingsOf = (wanted: "open" | "save"): string =>
  formats.flatMap((f) => (f[wanted] ? f.endings : [])).join(", ");

function formatOf(path: string, wanted: "open" | "save"): TensorFormat {
  const found = formats.find((f) => f[wanted] && f.endings.some((ending) => path.toLowerCase().endsWith(ending)));
  if (found) return found;
  const what = wanted === "open" ? "read" : "written";
  throw new FormatError({
    rule: `Files of tensors that are ${what} end in ${endingsOf(wanted)}`,
    got: path,
    fix: "Name it by its format",
  });
}

/** Throws FormatError for a name whose ending is that of no format that can be written. */
export const checkWritable = (path: string): void => void formatOf(path, "save");

/**
 * Opens a file of tensors, in the format that its name ends in; of a PyTorch checkpoint the part that `key` names. Close it afterwards.
 * Throws FormatError for any other ending, OptionError for a key where a format has no parts.
 */
export function openTensors(path: string, { key }: { key?: string | undefined } = {}): Promise<TensorFile> {
  const { name, open } = formatOf(path, "open");
  if (key === undefined || open === openPart) return open!(path, key);
  throw new OptionError({ rule: "key names a part of a PyTorch checkpoint", got: `${key} for ${path} (${name})` });
}

/**
 * Writes tensors in the format that the name ends in; the model.json of TensorFlow.js with the configuration of `like`, an open one.
 * Throws FormatError for an ending that is not written, and for names that Keras 3 would not find in a .weights.h5.
 */
export async function saveTensors(tensors: Tensors, path: string, like: TensorFile | null = null): Promise<void> {
  await formatOf(path, "save").save!(tensors, path, like);
}
