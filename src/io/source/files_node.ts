import { closeSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import { dirname, isAbsolute, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { FormatError, StateError } from "../../base/errors.js";
import { damaged } from "../damage.js";
import { fileReason, writeAtomically } from "../files/atomic_file.js";
import { checkRange, type SyncSource } from "./byte_source.js";

/** read(2) takes at most 2 GiB at once. */
const LARGEST_READ = 2 ** 30;

/** Opens a file for reading at any place. Throws FormatError when it is missing or cannot be read. */
export function openFile(path: string): SyncSource {
  const file = trying(path, () => openSync(path, "r"));
  const status = trying(path, () => fstatSync(file));
  if (!status.isFile()) {
    closeSync(file);
    throw unreadable(path, "no file but a folder or a device");
  }
  const source = { name: path, size: status.size };
  let open = true;
  const readNow = (from: number, to: number): Uint8Array => {
    // Its number may by now be that of another file.
    if (!open) throw new StateError({ rule: "A file is read before it is closed", got: path, fix: "Open it again" });
    checkRange(from, to, source);
    const bytes = new Uint8Array(to - from);
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(LARGEST_READ, bytes.length - done);
      const read = trying(path, () => readSync(file, bytes, done, length, from + done));
      // Somebody cut it after it was opened.
      if (read === 0) checkRange(from, to, { name: path, size: from + done });
      done += read;
    }
    return bytes;
  };
  const close = (): void => {
    if (open) closeSync(file);
    open = false;
  };
  return { ...source, readNow, read: async (from, to) => readNow(from, to), close };
}

export const openFileURL = (url: URL): SyncSource => openFile(fileURLToPath(url));

/** Writes a whole file or nothing (files/atomic_file.ts); returns its size. */
export const writeFile = (path: string, pieces: Iterable<Uint8Array>): number => writeAtomically(path, pieces);

/**
 * The path of a file that the file at `path` names beside it, as sharded checkpoints and external data do. Throws FormatError for
 * one outside of that file's folder, also by a link: a file from elsewhere must not read what it likes.
 */
export function besideFile(path: string, named: string): string {
  const folder = trying(path, () => realpathSync(dirname(resolve(path))));
  const outside = (got: string): FormatError =>
    damaged(path, `name ${JSON.stringify(named)}`, {
      rule: "A file may name others in its own folder and below it",
      got,
      fix: "Put the files in one folder, and do not load files that you do not trust",
    });
  if (isAbsolute(named) || named.includes("\0")) throw outside("an absolute path");
  const joined = resolve(folder, named);
  const inside = (place: string): boolean => {
    const way = relative(folder, place);
    return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
  };
  if (!inside(joined)) throw outside("a path that leads out of it");
  const real = trying(joined, () => realpathSync(joined));
  if (!inside(real)) throw outside("a link that leads out of it");
  return real;
}

function trying<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw unreadable(path, missing ? "no such file" : fileReason(error), error);
  }
}

const unreadable = (path: string, got: string, cause?: unknown): FormatError =>
  new FormatError(
    { rule: "A file must be there and readable", got: `${path}: ${got}`, fix: "Check the path" },
    cause === undefined ? undefined : { cause },
  );
