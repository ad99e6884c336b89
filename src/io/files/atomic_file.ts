import {
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { EvenkeelError, FileError, FormatError } from "../../base/errors.js";

/** What saving asks of the file system; another one may be passed in to see what a failing disk does. */
export interface FileSystem {
  open(path: string, flags: "r" | "w"): number;
  write(file: number, bytes: Uint8Array): number;
  fsync(file: number): void;
  close(file: number): void;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  link(from: string, to: string): void;
  list(folder: string): string[];
}

export const nodeFiles: FileSystem = {
  open: (path, flags) => openSync(path, flags),
  write: (file, bytes) => writeSync(file, bytes),
  fsync: fsyncSync,
  close: closeSync,
  rename: renameSync,
  unlink: unlinkSync,
  link: linkSync,
  list: (folder) => readdirSync(folder),
};

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the device",
  EDQUOT: "the disk quota is used up",
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the file system is read-only",
  ENOENT: "no such folder",
  ENOTDIR: "a part of the path is not a folder",
  EISDIR: "the path is a folder",
  EIO: "the device failed",
};

const repairs: Readonly<Record<string, string>> = {
  ENOSPC: "Make room, or name a path on another disk",
  EDQUOT: "Make room, or name a path on another disk",
  ENOENT: "Create the folder, or name another path",
};

/** What the operating system said, in words. */
export function fileReason(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  const words = code === undefined ? undefined : reasons[code];
  return words ? `${words} (${code})` : (message ?? String(error));
}

/**
 * Writes a whole file or nothing: the bytes go to a temporary file in the same folder, which is forced to disk and
 * then renamed over `path`. Whatever fails, the file that was at `path` stays as it was and the temporary one goes.
 * Pieces are asked for one after the other, so that not all of them need be in memory; what one throws is not a FileError.
 * Throws FileError. Returns the number of bytes.
 */
export function writeAtomically(path: string, pieces: Iterable<Uint8Array>, files: FileSystem = nodeFiles): number {
  const total = writeTemporary(path, pieces, files, (temporary) => files.rename(temporary, path));
  syncFolder(dirname(path), files);
  return total;
}

/** All of writeAtomically but the renaming: throws the FileError that it would, and leaves nothing behind. */
export function rehearseWriting(path: string, pieces: Iterable<Uint8Array>, files: FileSystem = nodeFiles): void {
  writeTemporary(path, pieces, files, (temporary) => {
    // What a rename onto a folder would say.
    if (isFolder(path, files)) throw Object.assign(new Error("EISDIR"), { code: "EISDIR" });
    files.unlink(temporary);
  });
}

/** `finish` is called once the temporary file is whole and on the disk. */
function writeTemporary(
  path: string,
  pieces: Iterable<Uint8Array>,
  files: FileSystem,
  finish: (temporary: string) => void,
): number {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  let file: number | null = null;
  let made = false;
  let total = 0;
  try {
    file = files.open(temporary, "w");
    made = true;
    for (const piece of pieces) total += writeAll(files, file, piece);
    files.fsync(file);
    const open = file;
    file = null;
    files.close(open);
    finish(temporary);
  } catch (error) {
    if (file !== null) quietly(() => files.close(file!));
    if (made) quietly(() => files.unlink(temporary));
    if (error instanceof EvenkeelError) throw error;
    const repair = repairs[(error as { code?: string }).code ?? ""];
    throw new FileError(
      {
        rule: `Writing ${path} must succeed; what was there before is unchanged`,
        got: fileReason(error),
        ...(repair ? { fix: repair } : {}),
      },
      { cause: error },
    );
  }
  return total;
}

/**
 * Removes what processes that were killed in the middle of writeAtomically left in a folder, of the files whose names `ours` says
 * yes to. Where a process of such a number runs on this machine the file may be its own, and stays.
 */
export function removeLeftovers(folder: string, ours: (name: string) => boolean, files: FileSystem = nodeFiles): void {
  quietly(() => {
    for (const left of files.list(folder)) {
      const [, name, pid] = /^\.(.+)\.(\d+)\.tmp$/.exec(left) ?? [];
      if (name === undefined || !ours(name)) continue;
      if (Number(pid) === process.pid || !isRunning(Number(pid))) quietly(() => files.unlink(join(folder, left)));
    }
  });
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

function isFolder(path: string, files: FileSystem): boolean {
  try {
    files.list(path);
    return true;
  } catch {
    return false;
  }
}

/** write(2) may take fewer bytes than it is given, as it does just before a disk is full. */
function writeAll(files: FileSystem, file: number, bytes: Uint8Array): number {
  for (let done = 0; done < bytes.length; ) {
    const written = files.write(file, bytes.subarray(done));
    if (written <= 0) throw Object.assign(new Error("write took no bytes"), { code: "EIO" });
    done += written;
  }
  return bytes.length;
}

/** Makes a rename last through a power cut. Not every system can open a folder; the new file is in place either way. */
function syncFolder(folder: string, files: FileSystem): void {
  quietly(() => {
    const handle = files.open(folder, "r");
    try {
      files.fsync(handle);
    } finally {
      files.close(handle);
    }
  });
}

export function quietly(body: () => void): void {
  try {
    body();
  } catch {
    // What failed here was itself the clean-up, or an extra.
  }
}

/** read(2) takes at most 2 GiB at once. */
const LARGEST_READ = 2 ** 30;

/** Reads a whole file of any size. Throws FormatError when it is missing or cannot be read. */
export function readWhole(path: string, what: string): Uint8Array {
  try {
    const file = openSync(path, "r");
    try {
      const bytes = new Uint8Array(fstatSync(file).size);
      for (let done = 0; done < bytes.length; ) {
        const read = readSync(file, bytes, done, Math.min(LARGEST_READ, bytes.length - done), done);
        if (read === 0) return bytes.subarray(0, done);
        done += read;
      }
      return bytes;
    } finally {
      closeSync(file);
    }
  } catch (error) {
    const missing = (error as { code?: string }).code === "ENOENT";
    throw new FormatError(
      {
        rule: `${what} must be a readable file`,
        got: `${path}: ${missing ? "no such file" : fileReason(error)}`,
        fix: "Check the path",
      },
      { cause: error },
    );
  }
}
