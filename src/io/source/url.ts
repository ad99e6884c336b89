import { FormatError } from "../../base/errors.js";
import { damaged } from "../damage.js";
import { type ByteSource, checkRange } from "./byte_source.js";

/** Enough for the header of nearly every file, so that small ones and headers take one request. */
const FIRST_PART = 2 ** 16;

/** The whole body of a response. Throws FormatError for a status that is no success, or a body that was read before. */
export async function responseBytes(response: Response, name = response.url || "a Response"): Promise<Uint8Array> {
  if (!response.ok) throw unreachable(name, `status ${response.status} ${response.statusText}`.trimEnd());
  if (response.bodyUsed) {
    const rule = "A Response is read once";
    throw new FormatError({
      rule,
      got: `${name}, whose body was read before`,
      fix: "Fetch it again, or clone() it first",
    });
  }
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw unreachable(name, `a transfer that broke off: ${error}`, error);
  }
}

export async function wholeURL(url: URL): Promise<Uint8Array> {
  return responseBytes(await request(url, {}), url.href);
}

/**
 * A file on a server that is read in parts with HTTP Range requests; null where the server does not answer such a request with
 * the part (status 206 and its place) but with something else.
 */
export async function rangedURL(url: URL): Promise<ByteSource | null> {
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  const first = await request(url, { Range: `bytes=0-${FIRST_PART - 1}` });
  const place = first.status === 206 ? contentRange(first) : null;
  if (place?.from !== 0 || place.to > FIRST_PART) {
    await first.body?.cancel();
    return null;
  }
  const head = await responseBytes(first, url.href);
  // A body that was compressed for the way has other places than the file.
  if (head.length !== place.to) return null;
  const source = { name: url.href, size: place.size };
  const etag = first.headers.get("ETag");
  // A weak tag must not be used for parts (RFC 9110, 13.1.5).
  const version = etag && !etag.startsWith("W/") ? etag : null;
  const read = async (from: number, to: number): Promise<Uint8Array> => {
    checkRange(from, to, source);
    if (to <= head.length) return head.slice(from, to);
    const response = await request(url, {
      Range: `bytes=${from}-${to - 1}`,
      ...(version ? { "If-Range": version } : {}),
    });
    const got = response.status === 206 ? contentRange(response) : null;
    if (got?.from !== from || got.to !== to || got.size !== source.size) {
      await response.body?.cancel();
      const rule = "A file on a server must stay what it was while it is read in parts";
      const answer = got ? `bytes ${got.from} to ${got.to} of ${got.size}` : `status ${response.status}`;
      throw damaged(url.href, from, { rule, got: answer, fix: "Open it again" });
    }
    const bytes = await responseBytes(response, url.href);
    if (bytes.length === to - from) return bytes;
    const rule = "A server must send the part that it announces";
    throw damaged(url.href, from, { rule, got: `${bytes.length} bytes for ${to - from}`, fix: "Try again" });
  };
  return { ...source, read, close() {} };
}

async function request(url: URL, headers: Record<string, string>): Promise<Response> {
  try {
    return await fetch(url, { headers });
  } catch (error) {
    const cause = (error as { cause?: unknown }).cause;
    throw unreachable(url.href, String(cause ?? error), error);
  }
}

/** "bytes 0-99/1234" as the part [0, 100) of 1234 bytes. */
function contentRange(response: Response): { from: number; to: number; size: number } | null {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
  if (!match) return null;
  const [from, last, size] = match.slice(1).map(Number) as [number, number, number];
  return from <= last && last < size && Number.isSafeInteger(size) ? { from, to: last + 1, size } : null;
}

const unreachable = (name: string, got: string, cause?: unknown): FormatError =>
  new FormatError(
    { rule: "A file must be there and readable", got: `${name}: ${got}`, fix: "Check the address" },
    cause === undefined ? undefined : { cause },
  );
