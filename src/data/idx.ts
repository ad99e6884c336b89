import { FormatError } from "../base/errors.js";
import { count, type DataFile } from "./folder.js";

/** Unsigned bytes of an IDX file and their shape. */
export interface IdxArray {
  readonly shape: readonly number[];
  readonly values: Uint8Array;
}

const unsignedByte = 8;

/**
 * Reads an IDX file of unsigned bytes: 0, 0, 8, rank; then each length as a 32-bit big-endian number; then the values.
 * Throws: FormatError for other first bytes, a length of 0, or a file longer or shorter than its header says.
 */
export function parseIdx({ path, bytes }: DataFile, rank: number): IdxArray {
  const headerSize = 4 + 4 * rank;
  const what = rank === 1 ? "labels" : "images";
  if (bytes.length < headerSize) {
    throw new FormatError({
      rule: `An IDX file of ${what} has a header of ${headerSize} bytes`,
      got: `${path} with ${bytes.length} bytes`,
      fix: "It is cut short: download it again",
    });
  }
  if (bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== unsignedByte || bytes[3] !== rank) {
    throw new FormatError({
      rule: `An IDX file of ${what} starts with the bytes ${hex([0, 0, unsignedByte, rank])}`,
      got: `${hex(bytes.subarray(0, 4))} in ${path}`,
      fix:
        bytes[2] === unsignedByte
          ? "Images and labels may have changed names"
          : "It is another file: download it again",
    });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  // In double precision, so that hostile lengths give a large number and not a wrapped one.
  const expected = headerSize + shape.reduce((n, d) => n * d, 1);
  if (shape.includes(0)) {
    throw new FormatError({ rule: "The lengths in an IDX header are above 0", got: `${shape.join(" x ")} in ${path}` });
  }
  if (bytes.length !== expected) {
    throw new FormatError({
      rule: `An IDX file whose header says ${shape.map(count).join(" x ")} has ${count(expected)} bytes`,
      got: `${path} with ${count(bytes.length)} bytes`,
      fix: bytes.length < expected ? "It is cut short: download it again" : "Download it again",
    });
  }
  return { shape, values: bytes.subarray(headerSize) };
}

const hex = (bytes: ArrayLike<number>): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join(" ");
