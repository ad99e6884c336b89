import { openFile } from "#files";
import { describeValue, OptionError } from "../../base/errors.js";
import { checkRange, type SyncSource } from "./byte_source.js";

/** What is there at once: bytes, or the path of a file (in Node). */
export type NowInput = string | Uint8Array | ArrayBuffer;

export const isNow = (input: unknown): input is NowInput =>
  typeof input === "string" || input instanceof Uint8Array || input instanceof ArrayBuffer;

/** Opens bytes, or a file by its path. The caller closes it. Throws FormatError for a file that cannot be read. */
export function openNow(input: NowInput): SyncSource {
  if (typeof input === "string") return openFile(input);
  if (isNow(input)) return bytesSource(input instanceof Uint8Array ? input : new Uint8Array(input));
  throw notBytes(input);
}

export const notBytes = (input: unknown): OptionError =>
  new OptionError({
    rule: "A file is read from a path, bytes, a Blob, a URL or a fetch Response",
    got: describeValue(input),
    fix: "Pass one of these",
  });

function bytesSource(bytes: Uint8Array): SyncSource {
  const name = `${bytes.length} bytes`;
  const readNow = (from: number, to: number): Uint8Array => {
    checkRange(from, to, { name, size: bytes.length });
    return bytes.subarray(from, to);
  };
  return { name, size: bytes.length, readNow, read: async (from, to) => readNow(from, to), close() {} };
}
