import { FormatError } from "../base/errors.js";
import { openFlax } from "./flax/open_flax.js";
import { saveFlax } from "./flax/save_flax.js";
import { openKeras } from "./keras/open_keras.js";
import { openNpz } from "./numpy/read.js";
import { saveNpz } from "./numpy/write.js";
import { openSafetensors } from "./safetensors/read.js";
import { saveSafetensors } from "./safetensors/write.js";
import type { FileTensor, TensorFile } from "./tensor_file.js";
import { openTorch } from "./torch/read.js";

type Tensors = ReadonlyMap<string, FileTensor>;

/** A format of named tensors, by the endings of its files' names. */
interface TensorFormat {
  readonly name: string;
  readonly endings: readonly string[];
  readonly open?: (path: string) => Promise<TensorFile>;
  readonly save?: (tensors: Tensors, path: string) => unknown;
}

const formats: readonly TensorFormat[] = [
  {
    name: "safetensors",
    endings: [".safetensors"],
    open: openSafetensors,
    // What libraries around PyTorch look for.
    save: (tensors, path) => saveSafetensors(tensors, path, { metadata: { format: "pt" } }),
  },
  { name: "npz", endings: [".npz"], open: openNpz, save: saveNpz },
  { name: "PyTorch", endings: [".pt", ".pth", ".bin", ".ckpt"], open: openTorch },
  { name: "Flax", endings: [".msgpack"], open: openFlax, save: saveFlax },
  { name: "Keras", endings: [".weights.h5", ".keras", ".h5", ".hdf5"], open: openKeras },
];

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

/** Opens a file of tensors, in the format that its name ends in. Close it afterwards. Throws FormatError for any other ending. */
export const openTensors = (path: string): Promise<TensorFile> => formatOf(path, "open").open!(path);

/** Writes tensors in the format that the name ends in. Throws FormatError for an ending that is not written. */
export async function saveTensors(tensors: Tensors, path: string): Promise<void> {
  await formatOf(path, "save").save!(tensors, path);
}
