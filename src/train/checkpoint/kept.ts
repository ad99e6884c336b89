import { basename, dirname, extname, join } from "node:path";
import { type FileSystem, nodeFiles, quietly, readWhole, writeAtomically } from "../../io/files/atomic_file.js";

/** The name under which the checkpoint of one step is kept beside `path`: model.evk -> model-step120.evk. */
export function keptPath(path: string, step: number): string {
  const extension = extname(path);
  return join(dirname(path), `${basename(path, extension)}-step${step}${extension}`);
}

/**
 * Keeps the checkpoint just written to `path` also under its step's name, and removes all but the `keep` newest of
 * these. With keep = 1 `path` itself is the only one.
 */
export function keepCheckpoint(path: string, step: number, keep: number, files: FileSystem = nodeFiles): void {
  if (keep <= 1) return;
  const kept = keptPath(path, step);
  quietly(() => files.unlink(kept));
  try {
    files.link(path, kept); // the same bytes under two names
  } catch {
    writeAtomically(kept, [readWhole(path, "A checkpoint")], files); // a file system without hard links
  }
  const extension = extname(path);
  const start = `${basename(path, extension)}-step`;
  const steps = files
    .list(dirname(path))
    .filter((name) => name.startsWith(start) && name.endsWith(extension))
    .map((name) => name.slice(start.length, name.length - extension.length))
    .filter((digits) => /^\d+$/.test(digits))
    .map(Number)
    .sort((a, b) => b - a);
  for (const old of steps.slice(keep)) quietly(() => files.unlink(keptPath(path, old)));
}
