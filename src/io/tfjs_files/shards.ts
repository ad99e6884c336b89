import { besideFile, openFile } from "#files";
import type { FormatError } from "../../base/errors.js";
import { damaged } from "../damage.js";
import { joined } from "../joined.js";
import { type ByteSource, checkRange } from "../source/byte_source.js";
import { openSource } from "../source/open.js";

/** Opens the shard that a model.json names. */
export type OpenShard = (path: string) => ByteSource | Promise<ByteSource>;

/** Shards beside a file, in its folder or below. */
export const shardsBeside =
  (modelPath: string): OpenShard =>
  (path) =>
    openFile(besideFile(modelPath, path));

/** Shards beside a model.json on a server: below its folder, by no other scheme, host or way up. */
export function shardsBelow(model: URL): OpenShard {
  return (path) => {
    const outside = (got: string, cause?: unknown): FormatError =>
      damaged(
        model.href,
        `path ${JSON.stringify(path)}`,
        { rule: "A model.json may name files in its own folder and below it", got },
        cause,
      );
    let shard: URL;
    let folder: string;
    try {
      folder = new URL(".", model).href;
      shard = new URL(path, folder);
    } catch (error) {
      throw outside("no address", error);
    }
    // The parser has resolved every "..", however it was spelled; what begins with the folder lies in it.
    if (!shard.href.startsWith(folder) || shard.href === folder) throw outside(shard.href);
    return openSource(shard);
  };
}

/** Several sources, one after the other, as one. They are closed together. */
export function concatenated(sources: readonly ByteSource[], name: string): ByteSource {
  const starts: number[] = [];
  let size = 0;
  for (const source of sources) {
    starts.push(size);
    size += source.size;
  }
  const read = async (from: number, to: number): Promise<Uint8Array> => {
    checkRange(from, to, { name, size });
    const pieces: Uint8Array[] = [];
    for (const [i, source] of sources.entries()) {
      const start = starts[i]!;
      const first = Math.max(from, start) - start;
      const last = Math.min(to, start + source.size) - start;
      if (first < last) pieces.push(await source.read(first, last));
    }
    return pieces.length === 1 ? pieces[0]! : joined(pieces, to - from);
  };
  const close = (): void => {
    for (const source of sources) source.close();
  };
  return { name, size, read, close };
}
