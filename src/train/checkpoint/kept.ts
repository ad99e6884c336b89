import { basename, dirname, extname, join } from "node:path";
import { type FileSystem, nodeFiles, quietly, readWhole, writeAtomically } from "../../io/files/atomic_file.js";

/** model.evk -> "model-step", ".evk": what the names of kept checkpoints begin and end with. */
function nameParts(path: string): { folder: string; start: string; extension: string } {
  const extension = extname(path);
  return { folder: dirname(path), start: `${basename(path, extension)}-step`, extension };
}

/** The name under which the checkpoint of one step is kept beside `path`: model.evk -> model-step120.evk. */
export function keptPath(path: string, step: number): string {
  const { folder, start, extension } = nameParts(path);
  return join(folder, `${start}${step}${extension}`);
}

/** The path that keptPath made a name for: model-step120.evk -> model.evk; any other as it is. */
export function withoutStep(path: string): string {
  const extension = extname(path);
  return join(dirname(path), basename(path, extension).replace(/-step\d+$/, "") + extension);
}

/** The steps that are kept beside `path`, the newest first. */
export function keptSteps(path: string, files: FileSystem = nodeFiles): number[] {
  const { folder, start, extension } = nameParts(path);
  return files
    .list(folder)
    .filter((name) => name.startsWith(start) && name.endsWith(extension))
    .map((name) => name.slice(start.length, name.length - extension.length))
    .filter((digits) => /^(0|[1-9]\d*)$/.test(digits))
    .map(Number)
    .sort((a, b) => b - a);
}

/**
 * Keeps the checkpoint just written to `path` also under its step's name, and removes all but the `keep` newest of
 * these. Those of later steps are of a course that this one has left (an earlier run at the same path, or what was damaged
 * when this one was resumed), and go too. With keep = 1 `path` itself is the only one.
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
  const steps = keptSteps(path, files);
  const past = steps.filter((other) => other <= step).slice(0, keep);
  for (const other of steps.filter((s) => !past.includes(s))) quietly(() => files.unlink(keptPath(path, other)));
}
