import { DeviceError } from "../../base/errors.js";
import type { SyncSource } from "./byte_source.js";

const noFiles = (path: string): DeviceError =>
  new DeviceError({
    rule: "A browser opens no files by path",
    got: JSON.stringify(path),
    fix: "Read from bytes, a Blob, a URL or a fetch Response; saving without a path returns bytes",
  });

export function openFile(path: string): SyncSource {
  throw noFiles(path);
}

export function openFileURL(url: URL): SyncSource {
  throw noFiles(url.href);
}

export function writeFile(path: string, _pieces: Iterable<Uint8Array>): number {
  throw noFiles(path);
}

export function besideFile(path: string, _named: string): string {
  throw noFiles(path);
}
