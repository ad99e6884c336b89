import { openFile, openFileURL } from "#files";
import { describeValue, OptionError } from "../../base/errors.js";
import { blobSource } from "./blob.js";
import { type ByteSource, checkRange, type SyncSource } from "./byte_source.js";
import { rangedURL, responseBytes, wholeURL } from "./url.js";

/** What is there at once: bytes, or the path of a file (in Node). */
export type NowInput = string | Uint8Array | ArrayBuffer;

/** What must be waited for: a Blob (or File), a URL, or what `fetch` gave. */
export type LaterInput = Blob | URL | Response | Promise<Response>;

export const isNow = (input: unknown): input is NowInput =>
  typeof input === "string" || input instanceof Uint8Array || input instanceof ArrayBuffer;

/** Opens bytes, or a file by its path. The caller closes it. Throws FormatError for a file that cannot be read. */
export function openNow(input: NowInput): SyncSource {
  if (typeof input === "string" && /^(https?|file|blob|data):/i.test(input)) {
    const fix = `Pass new URL(${JSON.stringify(input.slice(0, 60))})`;
    throw new OptionError({ rule: "A string is the path of a file", got: "an address", fix });
  }
  if (typeof input === "string") return openFile(input);
  if (isNow(input)) return bytesSource(input instanceof Uint8Array ? input : new Uint8Array(input));
  throw notBytes(input);
}

/**
 * Opens anything. Of a URL, parts are requested as they are read where the server sends parts, unless `whole` says that all will
 * be wanted; a file: URL is a file. The caller closes it. Throws FormatError for what cannot be read.
 */
export async function openSource(
  input: NowInput | LaterInput,
  { whole = false }: { whole?: boolean } = {},
): Promise<ByteSource> {
  if (isNow(input)) return openNow(input);
  const given: unknown = await input;
  if (given instanceof Blob) return blobSource(given);
  if (given instanceof Response) return bytesSource(await responseBytes(given), given.url || "a Response");
  if (!(given instanceof URL)) throw notBytes(given);
  if (given.protocol === "file:") return openFileURL(given);
  return (whole ? null : await rangedURL(given)) ?? bytesSource(await wholeURL(given), given.href);
}

const notBytes = (input: unknown): OptionError =>
  new OptionError({
    rule: "A file is read from a path, bytes, a Blob, a URL or a fetch Response",
    got: describeValue(input),
    fix: "Pass one of these",
  });

function bytesSource(bytes: Uint8Array, name = `${bytes.length} bytes`): SyncSource {
  const readNow = (from: number, to: number): Uint8Array => {
    checkRange(from, to, { name, size: bytes.length });
    return bytes.subarray(from, to);
  };
  return { name, size: bytes.length, readNow, read: async (from, to) => readNow(from, to), close() {} };
}
