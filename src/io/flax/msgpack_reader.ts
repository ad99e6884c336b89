import { damaged } from "../damage.js";
import type { ByteSource } from "../source/byte_source.js";
import { type Reading, readPart } from "../source/reading.js";

/**
 * What begins at a place of a msgpack file (github.com/msgpack/msgpack, spec.md). Texts and numbers are read; of a map or an array
 * there is the number of its entries, which come next; of bytes and extensions there is the place, and they are passed over.
 */
export type MsgpackItem =
  | { readonly kind: "plain"; readonly value: null | boolean | number | bigint | string }
  | { readonly kind: "map" | "array"; readonly count: number }
  | { readonly kind: "bytes"; readonly from: number; readonly to: number }
  | { readonly kind: "extension"; readonly type: number; readonly from: number; readonly to: number };

/** As much is read at once; what lies between two pieces of structure is mostly one tensor's numbers, and is not. */
const WINDOW = 2 ** 14;

/** No key and no text of a checkpoint is longer. */
const LONGEST_TEXT = 2 ** 16;

/**
 * Reads items one after the other, in a part [from, to) of a source. Of our own, since libraries build the whole value: arrays of a
 * checkpoint would be in memory twice before their shapes are looked at, and a count of 2^32 entries in 5 bytes would be believed.
 */
export class MsgpackReader {
  readonly #source: ByteSource;
  readonly #end: number;
  #at: number;
  #window: Uint8Array = new Uint8Array(0);
  #windowAt = 0;

  constructor(source: ByteSource, from: number, to: number) {
    this.#source = source;
    this.#at = from;
    this.#end = to;
  }

  get place(): number {
    return this.#at;
  }

  get atEnd(): boolean {
    return this.#at === this.#end;
  }

  *next(): Reading<MsgpackItem> {
    const begin = this.#at;
    const code = (yield* this.#take(1)).getUint8(0);
    if (code < 0x80) return plain(code);
    if (code >= 0xe0) return plain(code - 0x100);
    if (code < 0x90) return this.#entries("map", code & 15, begin);
    if (code < 0xa0) return this.#entries("array", code & 15, begin);
    if (code < 0xc0) return yield* this.#text(code & 31, begin);
    const form = forms.get(code);
    if (form === undefined) {
      throw damaged(this.#source.name, begin, {
        rule: "A value begins with a code of msgpack",
        got: `0x${code.toString(16)}`,
      });
    }
    if ("value" in form) return plain(form.value);
    const view = yield* this.#take(form.width);
    const value = form.read(view);
    if (form.kind === "number") return plain(value);
    const count = form.kind === "extension" && form.count !== undefined ? form.count : Number(value);
    if (form.kind === "text") return yield* this.#text(count, begin);
    if (form.kind === "map" || form.kind === "array") return this.#entries(form.kind, count, begin);
    if (form.kind === "bytes") return { kind: "bytes", ...this.#skip(count, begin) };
    const type = (yield* this.#take(1)).getInt8(0);
    return { kind: "extension", type, ...this.#skip(count, begin) };
  }

  /** Each entry takes a byte at least, and each of a map two. */
  #entries(kind: "map" | "array", count: number, at: number): MsgpackItem {
    const room = this.#end - this.#at;
    if (count * (kind === "map" ? 2 : 1) <= room) return { kind, count };
    const got = `${count} entries`;
    throw damaged(this.#source.name, at, { rule: `The ${room} bytes that follow must hold the ${kind}`, got });
  }

  #skip(length: number, begin: number): { from: number; to: number } {
    const from = this.#at;
    const to = from + length;
    if (to > this.#end) {
      const got = `${length} bytes`;
      throw damaged(this.#source.name, begin, { rule: `Bytes lie within the ${this.#end - from} that are left`, got });
    }
    this.#at = to;
    return { from, to };
  }

  *#text(length: number, begin: number): Reading<MsgpackItem> {
    if (length > LONGEST_TEXT) {
      const rule = `A text has at most ${LONGEST_TEXT} bytes`;
      throw damaged(this.#source.name, begin, { rule, got: String(length) });
    }
    const view = yield* this.#take(length);
    try {
      return plain(utf8.decode(new Uint8Array(view.buffer, view.byteOffset, length)));
    } catch (error) {
      throw damaged(this.#source.name, begin, { rule: "Texts are UTF-8", got: "bytes that are none" }, error);
    }
  }

  *#take(length: number): Reading<DataView> {
    const from = this.#at;
    const { to } = this.#skip(length, from);
    if (from < this.#windowAt || to > this.#windowAt + this.#window.length) {
      // A copy: TextDecoder takes no shared memory, and a view would keep all of a file.
      const end = Math.min(this.#end, Math.max(to, from + WINDOW));
      this.#window = new Uint8Array(yield* readPart(this.#source, from, end));
      this.#windowAt = from;
    }
    return new DataView(this.#window.buffer, from - this.#windowAt, length);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const plain = (value: null | boolean | number | bigint | string): MsgpackItem => ({ kind: "plain", value });

type Form =
  | { readonly value: null | boolean }
  | {
      readonly kind: "number" | "text" | "bytes" | "array" | "map" | "extension";
      readonly width: number;
      readonly read: (view: DataView) => number | bigint;
      /** The length of an extension that stands in its code. */
      readonly count?: number;
    };

const u8 = { width: 1, read: (view: DataView) => view.getUint8(0) };
const u16 = { width: 2, read: (view: DataView) => view.getUint16(0) };
const u32 = { width: 4, read: (view: DataView) => view.getUint32(0) };
const none = { width: 0, read: () => 0 };

/** What the codes from 0xc0 to 0xdf mean. Numbers are big-endian. */
const forms = new Map<number, Form>([
  [0xc0, { value: null }],
  [0xc2, { value: false }],
  [0xc3, { value: true }],
  [0xc4, { kind: "bytes", ...u8 }],
  [0xc5, { kind: "bytes", ...u16 }],
  [0xc6, { kind: "bytes", ...u32 }],
  [0xc7, { kind: "extension", ...u8 }],
  [0xc8, { kind: "extension", ...u16 }],
  [0xc9, { kind: "extension", ...u32 }],
  [0xca, { kind: "number", width: 4, read: (view) => view.getFloat32(0) }],
  [0xcb, { kind: "number", width: 8, read: (view) => view.getFloat64(0) }],
  [0xcc, { kind: "number", ...u8 }],
  [0xcd, { kind: "number", ...u16 }],
  [0xce, { kind: "number", ...u32 }],
  [0xcf, { kind: "number", width: 8, read: (view) => view.getBigUint64(0) }],
  [0xd0, { kind: "number", width: 1, read: (view) => view.getInt8(0) }],
  [0xd1, { kind: "number", width: 2, read: (view) => view.getInt16(0) }],
  [0xd2, { kind: "number", width: 4, read: (view) => view.getInt32(0) }],
  [0xd3, { kind: "number", width: 8, read: (view) => view.getBigInt64(0) }],
  ...[1, 2, 4, 8, 16].map((count, i): [number, Form] => [0xd4 + i, { kind: "extension", count, ...none }]),
  [0xd9, { kind: "text", ...u8 }],
  [0xda, { kind: "text", ...u16 }],
  [0xdb, { kind: "text", ...u32 }],
  [0xdc, { kind: "array", ...u16 }],
  [0xdd, { kind: "array", ...u32 }],
  [0xde, { kind: "map", ...u16 }],
  [0xdf, { kind: "map", ...u32 }],
]);
