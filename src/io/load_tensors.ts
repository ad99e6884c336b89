import { type Tensor, tensor } from "../autograd/index.js";
import { describeValue, OptionError } from "../base/errors.js";
import { nearestName } from "../base/options.js";
import { scope } from "../memory/scope.js";
import { damaged } from "./damage.js";
import type { ByteSource } from "./source/byte_source.js";
import { isNow, type LaterInput, type NowInput, openNow, openSource } from "./source/open.js";
import { type Reading, readLater, readNow } from "./source/reading.js";
import type { FileTensor, TensorFile, TensorInfo } from "./tensor_file.js";

/** What a format's reader makes of a source: names and places now, numbers later. */
export interface Contents {
  readonly format: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Of a name that is there. */
  readonly read: (name: string) => Reading<FileTensor>;
}

export type Opening = (source: ByteSource) => Reading<Contents>;

/** A tensor of numbers that were read from a file: on the CPU, of the type that its numbers have. */
export const tensorOf = ({ shape, data }: Pick<FileTensor, "shape" | "data">): Tensor => tensor(data, { shape });

/** All tensors of a source that needs no waiting; it is closed. */
function loadNow(input: NowInput, opening: Opening): Record<string, Tensor> {
  const source = openNow(input);
  try {
    return loadContentsNow(readNow(opening(source)));
  } finally {
    source.close();
  }
}

/** All tensors of what needs no waiting. */
export const loadContentsNow = ({ tensors, read }: Contents): Record<string, Tensor> =>
  // fromEntries makes "__proto__" a property like any other.
  scope(() => Object.fromEntries([...tensors.keys()].map((name) => [name, tensorOf(readNow(read(name)))])));

/** All tensors of any source; they belong to no scope, since what is made after waiting is outside of all. */
export async function loadLater(input: LaterInput, opening: Opening): Promise<Record<string, Tensor>> {
  const source = await openSource(input, { whole: true });
  try {
    return await loadContents(await readLater(opening(source)));
  } finally {
    source.close();
  }
}

export async function loadContents({ tensors, read }: Contents): Promise<Record<string, Tensor>> {
  const loaded: [string, Tensor][] = [];
  try {
    for (const name of tensors.keys()) loaded.push([name, tensorOf(await readLater(read(name)))]);
  } catch (error) {
    for (const [, t] of loaded) t.dispose();
    throw error;
  }
  return Object.fromEntries(loaded);
}

export function load(input: NowInput, opening: Opening): Record<string, Tensor>;
export function load(input: LaterInput, opening: Opening): Promise<Record<string, Tensor>>;
export function load(
  input: NowInput | LaterInput,
  opening: Opening,
): Record<string, Tensor> | Promise<Record<string, Tensor>> {
  return isNow(input) ? loadNow(input, opening) : loadLater(input, opening);
}

/** Opens a file whose tensors are read when they are asked for. The caller closes it. */
export async function open(input: NowInput | LaterInput, opening: Opening): Promise<TensorFile> {
  const source = await openSource(input);
  try {
    return tensorFile(await readLater(opening(source)), source.name, () => source.close());
  } catch (error) {
    source.close();
    throw error;
  }
}

export function tensorFile(contents: Contents, file: string, close: () => void): TensorFile {
  const { format, tensors, metadata } = contents;
  const read = async (name: string): Promise<FileTensor> => {
    if (tensors.has(name)) return readLater(contents.read(name));
    const near = typeof name === "string" ? nearestName(name, [...tensors.keys()]) : undefined;
    throw damaged(file, `tensor ${describeName(name)}`, {
      rule: "A tensor is read by a name that the file has",
      got: `no such name among ${tensors.size}`,
      ...(near === undefined ? {} : { fix: `Did you mean "${near}"?` }),
    });
  };
  return { format, tensors, metadata, read, close };
}

function describeName(name: unknown): string {
  if (typeof name === "string") return JSON.stringify(name);
  throw new OptionError({ rule: "A tensor's name is a string", got: describeValue(name) });
}
