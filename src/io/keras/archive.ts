import { damaged } from "../damage.js";
import type { ByteSource } from "../source/byte_source.js";
import type { Reading } from "../source/reading.js";
import { readDirectory, type ZipEntry } from "../zip/directory.js";
import { entryBytes } from "../zip/entry.js";
import { parseConfig } from "./model_config.js";

const CONFIG = "config.json";
const METADATA = "metadata.json";
const WEIGHTS = "model.weights.h5";

/** A text that is longer makes objects beyond any heap. */
const LONGEST_TEXT = 2 ** 26;

/** Keras does not compress. Weights that somebody else did shrink little, since their last bits are as good as random. */
const LARGEST_GAIN = 16;
const SMALL = 2 ** 26;

/** What is in a .keras file: a zip file with these three and nothing else that is read (vocabularies lie in "assets/"). */
export interface KerasArchive {
  readonly config: unknown;
  readonly metadata: ReadonlyMap<string, string>;
  readonly weights: Uint8Array;
}

export function* readArchive(source: ByteSource): Reading<KerasArchive> {
  const entries = yield* readDirectory(source);
  const entry = (name: string): ZipEntry => {
    const found = entries.get(name);
    const most = name === WEIGHTS ? Math.max(SMALL, LARGEST_GAIN * (found?.packed ?? 0)) : LONGEST_TEXT;
    if (found && found.size <= most) return found;
    if (found) {
      const got = `${found.size} bytes`;
      throw damaged(source.name, `entry ${name}`, { rule: `${name} unpacks to at most ${most} bytes here`, got });
    }
    const rule = `A .keras file holds ${METADATA}, ${CONFIG} and ${WEIGHTS}`;
    throw damaged(source.name, "directory", { rule, got: `no ${name} among ${entries.size} entries` });
  };
  const utf8 = new TextDecoder();
  const config = parseConfig(utf8.decode(yield* entryBytes(source, entry(CONFIG))), source.name, CONFIG);
  const about = parseConfig(utf8.decode(yield* entryBytes(source, entry(METADATA))), source.name, METADATA);
  const weights = yield* entryBytes(source, entry(WEIGHTS));
  const texts = Object.entries(about ?? {}).filter(([, value]) => typeof value === "string");
  return { config, metadata: new Map(texts as [string, string][]), weights };
}
