import { damaged } from "../damage.js";
import { type ByteSource, checkRange } from "./byte_source.js";

/** A Blob, or a File that the user chose: each part is read when it is asked for. */
export function blobSource(blob: Blob): ByteSource {
  const name = (blob as { name?: unknown }).name;
  const source = { name: typeof name === "string" ? name : "a Blob", size: blob.size };
  const read = async (from: number, to: number): Promise<Uint8Array> => {
    checkRange(from, to, source);
    try {
      return new Uint8Array(await blob.slice(from, to).arrayBuffer());
    } catch (error) {
      // A File whose file on disk was changed or removed after it was chosen.
      const rule = "A Blob must stay readable while it is read";
      throw damaged(source.name, from, { rule, got: String(error), fix: "Choose the file again" }, error);
    }
  };
  return { ...source, read, close() {} };
}
