import type { Tensor } from "../../autograd/index.js";
import { load, loadContents, loadContentsNow, open, tensorFile } from "../load_tensors.js";
import type { LaterInput, NowInput } from "../source/open.js";
import { readLater, readNow } from "../source/reading.js";
import type { TensorFile } from "../tensor_file.js";
import { safetensorsContents } from "./contents.js";
import { closeAll, isIndex, openShards, openShardsNow } from "./sharded.js";

/**
 * The tensors of a safetensors file by name: F64 as float64, F32, F16 and BF16 as float32, whole numbers and booleans as int32.
 * From bytes or a path at once; from a Blob, URL or Response as a promise. A path or URL that ends with ".index.json" loads the
 * checkpoint whose files it names. Throws FormatError for a file that breaks a rule of the format, or for whole numbers beyond int32.
 */
export function loadSafetensors(input: NowInput): Record<string, Tensor>;
export function loadSafetensors(input: LaterInput): Promise<Record<string, Tensor>>;
export function loadSafetensors(
  input: NowInput | LaterInput,
): Record<string, Tensor> | Promise<Record<string, Tensor>> {
  if (!isIndex(input)) return load(input as NowInput, safetensorsContents);
  return typeof input === "string" ? loadShardsNow(input) : loadShards(input);
}

/**
 * Opens a safetensors file, or the index of several, whose tensors are read one at a time, when they are asked for: a file of 4 GB needs
 * memory for its largest tensor alone. Close it afterwards. Throws FormatError as loadSafetensors does.
 */
export async function openSafetensors(input: NowInput | LaterInput): Promise<TensorFile> {
  if (!isIndex(input)) return open(input, safetensorsContents);
  const { contents, sources } = await openShards(input);
  try {
    return tensorFile(await readLater(contents), String(input), () => closeAll(sources));
  } catch (error) {
    closeAll(sources);
    throw error;
  }
}

function loadShardsNow(path: string): Record<string, Tensor> {
  const { contents, sources } = openShardsNow(path);
  try {
    return loadContentsNow(readNow(contents));
  } finally {
    closeAll(sources);
  }
}

async function loadShards(address: URL): Promise<Record<string, Tensor>> {
  const { contents, sources } = await openShards(address);
  try {
    return await loadContents(await readLater(contents));
  } finally {
    closeAll(sources);
  }
}
