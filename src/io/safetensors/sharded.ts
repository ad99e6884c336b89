import { besideFile } from "#files";
import { OptionError } from "../../base/errors.js";
import { damaged } from "../damage.js";
import { elementTypes } from "../elements.js";
import type { Contents } from "../load_tensors.js";
import type { ByteSource, SyncSource } from "../source/byte_source.js";
import { openNow, openSource } from "../source/open.js";
import { type Reading, readLater, readNow, readPart } from "../source/reading.js";
import type { TensorInfo } from "../tensor_file.js";
import { safetensorsContents } from "./contents.js";
import { type Json, parseStrictJson } from "./strict_json.js";

/** A checkpoint in several files: its index and its files, all open. */
export interface Sharded<S extends ByteSource> {
  readonly contents: Reading<Contents>;
  readonly sources: readonly S[];
}

const INDEX = ".index.json";

/** Whether an input names the index of a checkpoint in several files, by the end of its name. Throws OptionError for one whose files cannot be found. */
export function isIndex(input: unknown): input is string | URL {
  if (typeof input === "string") return input.endsWith(INDEX);
  if (input instanceof URL) return input.pathname.endsWith(INDEX);
  const name = (input as { name?: unknown } | null)?.name;
  if (!(input instanceof Blob) || typeof name !== "string" || !name.endsWith(INDEX)) return false;
  const fix = "Pass its path or URL, or load each file that it names";
  throw new OptionError({
    rule: "The files of a sharded checkpoint lie beside its index",
    got: `${name} without a folder`,
    fix,
  });
}

export function openShardsNow(path: string): Sharded<SyncSource> {
  const index = openNow(path);
  try {
    const shards = readNow(readIndex(index));
    const sources: SyncSource[] = [];
    try {
      for (const name of shards.files.keys()) sources.push(openNow(besideFile(path, name)));
    } catch (error) {
      closeAll(sources);
      throw error;
    }
    return { contents: mergedContents(shards, sources), sources };
  } finally {
    index.close();
  }
}

export async function openShards(address: string | URL): Promise<Sharded<ByteSource>> {
  if (typeof address === "string") return openShardsNow(address);
  const index = await openSource(address);
  try {
    const shards = await readLater(readIndex(index));
    const sources: ByteSource[] = [];
    try {
      for (const name of shards.files.keys()) sources.push(await openSource(besideURL(address, name)));
    } catch (error) {
      closeAll(sources);
      throw error;
    }
    return { contents: mergedContents(shards, sources), sources };
  } finally {
    index.close();
  }
}

export function closeAll(sources: readonly ByteSource[]): void {
  for (const source of sources) source.close();
}

interface ShardIndex {
  readonly file: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly totalSize: number | undefined;
  /** The names of the tensors in each file. */
  readonly files: ReadonlyMap<string, readonly string[]>;
}

/** { "metadata": { "total_size": bytes }, "weight_map": { tensor: file } } */
function* readIndex(source: ByteSource): Reading<ShardIndex> {
  const file = source.name;
  const json = parseStrictJson(yield* readPart(source, 0, source.size), file, 0);
  const rule = "The index of a checkpoint has a weight_map from tensors to files";
  const map = json instanceof Map ? (json.get("weight_map") as Json | undefined) : undefined;
  if (!(json instanceof Map) || !(map instanceof Map)) throw damaged(file, 0, { rule, got: "none" });
  const files = new Map<string, string[]>();
  for (const [name, shard] of map as ReadonlyMap<string, Json>) {
    if (typeof shard !== "string") throw damaged(file, `tensor ${JSON.stringify(name)}`, { rule, got: "no file name" });
    const names = files.get(shard);
    if (names) names.push(name);
    else files.set(shard, [name]);
  }
  const entries: ReadonlyMap<string, Json> = json.get("metadata") instanceof Map ? json.get("metadata") : new Map();
  const size = entries.get("total_size");
  if (size !== undefined && (!Number.isSafeInteger(size) || (size as number) < 0)) {
    throw damaged(file, "total_size", { rule: "total_size is a number of bytes", got: String(size) });
  }
  const metadata = new Map(
    [...entries].filter(([, v]) => v === null || typeof v !== "object").map(([k, v]) => [k, String(v)]),
  );
  return { file, metadata, totalSize: size as number | undefined, files };
}

/** The address of a file beside another. Throws FormatError for names that lead elsewhere. */
function besideURL(address: URL, name: string): URL {
  const steps = name.split("/");
  if (steps.every((step) => step !== "" && step !== "." && step !== ".." && !step.includes("\\"))) {
    return new URL(steps.map(encodeURIComponent).join("/"), address);
  }
  throw damaged(address.href, `name ${JSON.stringify(name)}`, {
    rule: "A file may name others in its own folder and below it",
    got: "a path that leads out of it",
    fix: "Do not load files that you do not trust",
  });
}

function* mergedContents(index: ShardIndex, sources: readonly ByteSource[]): Reading<Contents> {
  const tensors = new Map<string, TensorInfo>();
  const shards = new Map<string, Contents>();
  let total = 0;
  for (const [i, [shard, names]] of [...index.files].entries()) {
    const contents = yield* safetensorsContents(sources[i]!);
    for (const name of names) {
      const info = contents.tensors.get(name);
      if (!info) {
        const got = `${shard} without it`;
        const rule = "A file of a sharded checkpoint holds the tensors that the index says";
        throw damaged(index.file, `tensor ${JSON.stringify(name)}`, {
          rule,
          got,
          fix: "Files of two checkpoints may be mixed",
        });
      }
      tensors.set(name, info);
      shards.set(name, contents);
      total += elementTypes[info.type].bytes * info.shape.reduce((n, d) => n * d, 1);
    }
  }
  if (index.totalSize !== undefined && index.totalSize !== total) {
    const fix = "Files of two checkpoints may be mixed; if they are right, take total_size out of the index";
    throw damaged(index.file, "total_size", {
      rule: `The tensors have ${index.totalSize} bytes`,
      got: `${total}`,
      fix,
    });
  }
  return { format: "safetensors", tensors, metadata: index.metadata, read: (name) => shards.get(name)!.read(name) };
}
