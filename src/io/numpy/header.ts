import { damaged, elementsWithin } from "../damage.js";
import { type ElementName, elementTypes } from "../elements.js";
import type { TensorInfo } from "../tensor_file.js";
import { parseLiteral } from "./literal.js";

/** What an .npy file says before its numbers. */
export interface NpyHeader extends TensorInfo {
  /** Where the numbers begin, in bytes, and how many bytes they are. */
  readonly start: number;
  readonly length: number;
  readonly bigEndian: boolean;
  /** The first axis runs fastest. */
  readonly fortran: boolean;
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/** numpy reads no more than 10,000 either, unless it is told to. */
const LONGEST = 10_000;

/** So many bytes hold any header. */
export const LONGEST_HEAD = 12 + LONGEST;

/** numpy's codes of kind and bytes. */
const typesByCode: ReadonlyMap<string, ElementName> = new Map([
  ["f8", "float64"],
  ["f4", "float32"],
  ["f2", "float16"],
  ["i8", "int64"],
  ["i4", "int32"],
  ["i2", "int16"],
  ["i1", "int8"],
  ["u8", "uint64"],
  ["u4", "uint32"],
  ["u2", "uint16"],
  ["u1", "uint8"],
  ["b1", "bool"],
]);

const codes = new Map([...typesByCode].map(([code, type]) => [type, code]));

/** What is refused by a name of its own. */
const kinds: Readonly<Record<string, string>> = {
  O: "objects, which are stored as pickles and would have to be executed",
  c: "complex numbers",
  S: "bytes",
  U: "text",
  M: "dates",
  m: "time spans",
  V: "structures",
  f: "floating-point numbers of this machine alone",
};

/**
 * Reads the header of an .npy file (numpy.lib.format, versions 1.0, 2.0 and 3.0) from the first bytes of `size`. Throws FormatError
 * for types that tensors do not have and for a size that is not the header's and the numbers' together.
 */
export function parseNpyHeader(head: Uint8Array, size: number, file: string, where: string): NpyHeader {
  if (head.length < 10 || MAGIC.some((byte, i) => head[i] !== byte)) {
    const got = `${Math.min(head.length, 10)} bytes of something else`;
    throw damaged(file, where, { rule: "An npy file begins with \\x93NUMPY and a version", got });
  }
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const version = `${head[6]}.${head[7]}`;
  if (!["1.0", "2.0", "3.0"].includes(version)) {
    throw damaged(file, where, { rule: "The versions of npy are 1.0, 2.0 and 3.0", got: version });
  }
  const wide = head[6]! > 1;
  const begin = wide ? 12 : 10;
  const length = wide && head.length >= 12 ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = begin + length;
  if (length > LONGEST || start > head.length) {
    const got = `${length} in ${size} bytes`;
    throw damaged(file, where, { rule: `An npy header has at most ${LONGEST} bytes and lies within the file`, got });
  }
  const text = new TextDecoder(head[6] === 3 ? "utf-8" : "latin1").decode(head.slice(begin, start));
  const header = parseLiteral(text, file, where);
  const rule = "An npy header is a dictionary of descr, fortran_order and shape";
  if (
    !(header instanceof Map) ||
    header.size !== 3 ||
    !["descr", "fortran_order", "shape"].every((k) => header.has(k))
  ) {
    throw damaged(file, where, { rule, got: JSON.stringify(text.trimEnd().slice(0, 80)) });
  }
  const [fortran, shape] = [header.get("fortran_order"), header.get("shape")];
  if (typeof fortran !== "boolean" || !Array.isArray(shape)) {
    throw damaged(file, where, {
      rule: "fortran_order is True or False, and shape a tuple",
      got: text.trimEnd().slice(0, 80),
    });
  }
  const { type, bigEndian } = typeOf(header.get("descr"), file, where);
  const { bytes } = elementTypes[type];
  const elements = elementsWithin(shape, Math.floor((size - start) / bytes), file, where);
  if (start + elements * bytes !== size) {
    const got = `${size - start} bytes for ${elements} of type ${type}`;
    throw damaged(file, where, { rule: "An npy file holds as many bytes as shape and type need", got });
  }
  return { shape: shape as number[], type, start, length: elements * bytes, bigEndian, fortran };
}

function typeOf(descr: unknown, file: string, where: string): { type: ElementName; bigEndian: boolean } {
  const [, order, kind, bytes] = /^([<>|=]?)([a-zA-Z])(\d*)/.exec(typeof descr === "string" ? descr : "V") ?? [];
  const type = descr === `${order}${kind}${bytes}` ? typesByCode.get(`${kind}${bytes}`) : undefined;
  if (type !== undefined && order !== undefined) return { type, bigEndian: order === ">" };
  const meaning = kinds[kind ?? ""];
  throw damaged(file, where, {
    rule: `Arrays of numbers are read: ${[...typesByCode.keys()].join(", ")}`,
    got: `${typeof descr === "string" ? JSON.stringify(descr) : "a structure"}${meaning ? ` (${meaning})` : ""}`,
    fix: "Convert it in numpy with astype, or save its fields as arrays of their own",
  });
}

/** The code under which numpy knows a type; undefined for bfloat16, which it does not have. */
export const npyCode = (type: ElementName): string | undefined => codes.get(type);

/** The longest decimal number of an axis: numpy leaves room for it, so that an array can grow in place. */
const GROWTH = 21;

/** A header of version 1.0, as numpy writes it: with spaces so that the numbers begin at a multiple of 64. */
export function npyHeader(shape: readonly number[], code: string): Uint8Array {
  const order = elementOrder(code);
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  let text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': ${tuple}, }`;
  if (shape.length > 0) text += " ".repeat(GROWTH - String(shape[0]).length);
  const total = Math.ceil((10 + text.length + 1) / 64) * 64;
  text = `${text.padEnd(total - 11)}\n`;
  const bytes = new Uint8Array(total);
  bytes.set([...MAGIC, 1, 0, text.length & 255, text.length >> 8]);
  bytes.set(new TextEncoder().encode(text), 10);
  return bytes;
}

/** One byte has no order. */
const elementOrder = (code: string): string => (code.endsWith("1") ? "|" : "<");
