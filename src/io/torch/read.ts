import type { Tensor } from "../../autograd/index.js";
import { describeValue, OptionError } from "../../base/errors.js";
import { nearestName, readOptions } from "../../base/options.js";
import { damaged } from "../damage.js";
import { elementTypes } from "../elements.js";
import { type Contents, load, type Opening, open } from "../load_tensors.js";
import { swapped } from "../numpy/read.js";
import type { ByteSource } from "../source/byte_source.js";
import type { LaterInput, NowInput } from "../source/open.js";
import { type Reading, readPart } from "../source/reading.js";
import { rowMajor } from "../strided.js";
import type { FileTensor, TensorFile, TensorInfo } from "../tensor_file.js";
import { readDirectory, type ZipEntry } from "../zip/directory.js";
import { entryBytes } from "../zip/entry.js";
import { StoredTensor, torchMeaning } from "./meaning.js";
import { namedValues } from "./names.js";
import { type Pickled, readPickle, safer, Unread } from "./pickle.js";

export interface TorchOptions {
  /** The part of a checkpoint that is wanted, "model_state_dict" say (or "a.b" for one inside another): names begin below it. */
  readonly key?: string;
}

/**
 * The tensors of a file that torch.save wrote (PyTorch 1.6 or later), by name: float64 as it is, shorter floats as float32, whole numbers and
 * booleans as int32. Names of nested dictionaries are joined with ".". Nothing in the file is executed: of its pickle, dictionaries,
 * lists, numbers, texts and tensors are read, and anything else is refused by name; with `key` it may stand beside the part that is read.
 * Throws FormatError for such files, damaged ones, those of older PyTorch, and for whole numbers beyond int32; OptionError.
 */
export function loadTorch(input: NowInput, options?: TorchOptions): Record<string, Tensor>;
export function loadTorch(input: LaterInput, options?: TorchOptions): Promise<Record<string, Tensor>>;
export function loadTorch(
  input: NowInput | LaterInput,
  options?: TorchOptions,
): Record<string, Tensor> | Promise<Record<string, Tensor>> {
  return load(input as NowInput, torchContents("loadTorch", options));
}

/** Opens such a file, whose tensors are read one at a time; its numbers and texts are `metadata`. Close it afterwards. */
export async function openTorch(input: NowInput | LaterInput, options?: TorchOptions): Promise<TensorFile> {
  return open(input, torchContents("openTorch", options));
}

/** The first bytes of what torch.save wrote before version 1.6: a pickle of its magic number. */
const OLD = [0x80, 0x02, 0x8a, 0x0a];

/** More than what views of common numbers ever come to; a file could otherwise name one storage ten thousand times. */
const LARGEST_SHARE = 16;

function torchContents(owner: string, options: TorchOptions | undefined): Opening {
  const { key } = readOptions(owner, options, { key: undefined as string | undefined });
  if (key !== undefined && typeof key !== "string") {
    throw new OptionError({ rule: "key is the name of a part of the checkpoint", got: describeValue(key) });
  }
  return (source) => readTorch(source, key);
}

function* readTorch(source: ByteSource, key: string | undefined): Reading<Contents> {
  const { name: file, size } = source;
  const head = yield* readPart(source, 0, Math.min(4, size));
  if (head.length === 4 && OLD.every((byte, i) => head[i] === byte)) {
    const fix = "Load it in a newer PyTorch and save it again: torch.save(torch.load(path), path)";
    throw damaged(file, 0, {
      rule: "Checkpoints of PyTorch 1.6 and later are zip files",
      got: "one of an older PyTorch",
      fix,
    });
  }
  const entries = yield* readDirectory(source);
  const folder = folderOf(entries, file);
  const stored = (name: string): ZipEntry => {
    const entry = entries.get(folder + name);
    if (entry && !entry.deflated) return entry;
    const got = entry ? "one that is compressed" : "none";
    throw damaged(file, `entry ${JSON.stringify(folder + name)}`, {
      rule: "torch.save stores each of its entries",
      got,
    });
  };
  const pickle = stored("data.pkl");
  const value = readPickle(yield* entryBytes(source, pickle), torchMeaning(file), file, pickle.name);
  const refused = (object: Unread): Error => {
    const part = key === undefined ? partWithTensors(value) : undefined;
    return damaged(file, `${pickle.name}, byte ${object.place}`, {
      rule: "A checkpoint names dictionaries and tensors alone, since anything else would have to be executed",
      got: object.name,
      fix: part === undefined ? safer : `Read the part that is wanted: { key: ${JSON.stringify(part)} }`,
    });
  };
  const wanted = partOf(value, key, file, refused);
  const { tensors, metadata } = namedValues(wanted, pickle.size, file, refused);
  const order = entries.has(`${folder}byteorder`) ? yield* entryBytes(source, stored("byteorder")) : new Uint8Array(0);
  const bigEndian = new TextDecoder().decode(order.slice()) === "big";

  let total = 0;
  const infos = new Map<string, TensorInfo>();
  for (const [name, { storage, shape }] of tensors) {
    const { bytes } = elementTypes[storage.type];
    const entry = stored(`data/${storage.key}`);
    if (entry.size !== storage.length * bytes) {
      const got = `${entry.size} bytes for ${storage.length} of type ${storage.type}`;
      throw damaged(file, `entry ${JSON.stringify(entry.name)}`, {
        rule: "A storage has as many bytes as it announces",
        got,
      });
    }
    total += bytes * shape.reduce((n, d) => n * d, 1);
    infos.set(name, { shape, type: storage.type });
  }
  if (total > LARGEST_SHARE * size) {
    const rule = `Tensors share their numbers up to ${LARGEST_SHARE} times`;
    throw damaged(file, pickle.name, { rule, got: `${total} bytes of tensors in a file of ${size}` });
  }

  // Neighbours in a file are often views of one storage, which is read and checked as a whole.
  let last: { key: string; bytes: Uint8Array } | null = null;
  function* read(name: string): Reading<FileTensor> {
    const { storage, offset, shape, strides, end } = tensors.get(name)!;
    const element = elementTypes[storage.type];
    const entry = stored(`data/${storage.key}`);
    if (last?.key !== storage.key) last = { key: storage.key, bytes: yield* entryBytes(source, entry) };
    const part = last.bytes.subarray(offset * element.bytes, end * element.bytes);
    const data = element.decode(
      bigEndian ? swapped(part, element.bytes) : part,
      file,
      `tensor ${JSON.stringify(name)}`,
    );
    return { shape, type: storage.type, data: rowMajor(data, shape, strides) };
  }
  return { format: "torch", tensors: infos, metadata, read };
}

/** All entries lie in one folder, whose name is that of the file when it was saved. */
function folderOf(entries: ReadonlyMap<string, ZipEntry>, file: string): string {
  const names = [...entries.keys()];
  const found = names.filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  const folder = found[0]?.slice(0, -"data.pkl".length);
  if (folder === undefined || found.length > 1) {
    const fix = "It may be a zip file of something else";
    throw damaged(file, "its directory", {
      rule: "A file of torch.save has one data.pkl",
      got: `${found.length}`,
      fix,
    });
  }
  if (names.some((name) => name.startsWith(`${folder}code/`))) {
    const rule = "A checkpoint holds tensors, and no program";
    throw damaged(file, `entry "${folder}code/"`, {
      rule,
      got: "a TorchScript module",
      fix: "Save module.state_dict() with torch.save",
    });
  }
  return folder;
}

/** The part of a checkpoint that a user most likely wants: the first that has tensors of its own. */
function partWithTensors(value: Pickled): string | undefined {
  const parts: [unknown, unknown][] = value instanceof Map ? [...value] : [];
  const holds = (part: unknown): boolean =>
    part instanceof Map && [...part.values()].some((v) => v instanceof StoredTensor);
  return parts.find(([name, part]) => typeof name === "string" && holds(part))?.[0] as string | undefined;
}

function partOf(value: Pickled, key: string | undefined, file: string, refused: (object: Unread) => Error): Pickled {
  if (key === undefined) return value;
  let part = value;
  let rest = key;
  while (rest !== "") {
    const here: unknown = part;
    if (here instanceof Unread) throw refused(here);
    const names = here instanceof Map ? [...here.keys()].filter((k) => typeof k === "string") : [];
    // A key may itself have dots: the longest that is there.
    const name = names.filter((k) => rest === k || rest.startsWith(`${k}.`)).sort((a, b) => b.length - a.length)[0];
    if (name === undefined) {
      const parts = names.filter((k) => (here as Map<string, Pickled>).get(k) instanceof Map);
      const near = nearestName(rest, parts);
      throw damaged(file, `key ${JSON.stringify(key)}`, {
        rule: "key names a part of the checkpoint",
        got: parts.length > 0 ? `one with ${parts.slice(0, 8).join(", ")}` : "one without parts",
        ...(near === undefined ? {} : { fix: `Did you mean "${near}"?` }),
      });
    }
    part = (here as Map<string, Pickled>).get(name)!;
    rest = rest.slice(name.length + 1);
  }
  return part;
}
