import { damaged } from "../damage.js";
import type { ByteSource } from "../source/byte_source.js";
import type { Reading } from "../source/reading.js";
import { readDirectory, type ZipEntry } from "../zip/directory.js";
import { entryBytes } from "../zip/entry.js";
import { parseConfig } from "./model_config.js";

const CONFIG = "config.json";
const METADATA = "metadata.json";
const WEIGHTS = "model.weights.h5";

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
    if (found) return found;
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
