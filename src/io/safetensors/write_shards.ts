import { writeFile } from "#files";
import { OptionError } from "../../base/errors.js";
import type { TensorToWrite } from "../tensors_to_write.js";

const SUFFIX = ".safetensors";

/**
 * Writes a state as files of at most `most` bytes of numbers (or of one larger tensor), in its order, and their index; as one file where
 * that is enough. The names are those that transformers gives. Returns the size of all.
 */
export function saveShards(
  list: readonly TensorToWrite[],
  path: string | undefined,
  most: number,
  write: (shard: readonly TensorToWrite[], path: string) => number,
): number {
  if (path === undefined || !path.endsWith(SUFFIX)) {
    const got = path === undefined ? "no path" : JSON.stringify(path);
    throw new OptionError({
      rule: `With maxShardSize the path ends with ${SUFFIX}`,
      got,
      fix: `Write "model${SUFFIX}"`,
    });
  }
  const shards = split(list, most);
  if (shards.length <= 1) return write(list, path);
  const stem = path.slice(0, -SUFFIX.length);
  const map: [string, string][] = [];
  let total = 0;
  for (const [i, shard] of shards.entries()) {
    const name = `${stem}-${numbered(i + 1)}-of-${numbered(shards.length)}${SUFFIX}`;
    total += write(shard, name);
    const own = name.slice(name.search(/[^/\\]*$/));
    for (const tensor of shard) map.push([tensor.name, own]);
  }
  const metadata = { total_size: list.reduce((n, { size }) => n + size, 0) };
  const index = JSON.stringify({ metadata, weight_map: Object.fromEntries(map) }, null, 2);
  return total + writeFile(`${path}.index.json`, [new TextEncoder().encode(`${index}\n`)]);
}

const numbered = (n: number): string => String(n).padStart(5, "0");

function split(list: readonly TensorToWrite[], most: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [];
  let room = 0;
  for (const tensor of list) {
    if (shards.length === 0 || tensor.size > room) {
      shards.push([]);
      room = most;
    }
    shards.at(-1)!.push(tensor);
    room -= tensor.size;
  }
  return shards;
}
