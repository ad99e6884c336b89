import { damaged } from "../damage.js";

/** A name that a pickle refers to (a class, a function, a constant of Python): only the name. */
export class Named {
  constructor(readonly name: string) {}
}

/** An object of a class that is not read: it was never made, and is known to be there. A checkpoint may have such beside its tensors. */
export class Unread {
  constructor(
    readonly name: string,
    /** The byte of the pickle where it stands. */
    readonly place: number,
  ) {}
}

/** What a pickle is read to: dictionaries as Maps, lists and tuples as arrays, and what `Meaning` makes of the rest. */
export type Pickled = null | boolean | number | bigint | string | Uint8Array | object;

/** What torch writes has 60 and 7 at least. */
const BYTES_OF_DICTIONARY = 24;
const BYTES_OF_LIST = 5;
const DEEPEST = 1000;
/** Lists are filled in portions of 1000; a tuple lies there whole. */
const HIGHEST_STACK = 2 ** 20;

/** What names and calls of a pickle mean. Each throws FormatError by way of `wrong` for what it does not know. */
export interface Meaning {
  readonly isKnown: (name: string) => boolean;
  readonly call: (name: string, args: readonly Pickled[], wrong: Complaining) => Pickled;
  readonly persistent: (id: Pickled, wrong: Complaining) => Pickled;
}

export type Complaining = (rule: string, got: string, fix?: string) => Error;

export const safer = "Save model.state_dict() alone, or convert it to safetensors in Python";

/**
 * Reads a pickle (Python's pickletools, protocols 2 to 5) as far as torch.save writes such: the opcodes below and the names that
 * `meaning` knows. Nothing is ever looked up or executed; what another name would make is an Unread.
 *
 * Readers of pickles on npm are made for files that are trusted: pickleparser 0.2.1 calls and constructs what names resolve to,
 * merges state into objects by key (also "__proto__"), sets keys of a Map as properties after the opcode DICT, makes of an unknown name a
 * class and goes on, and answers an empty stack with undefined.
 */
export function readPickle(bytes: Uint8Array, meaning: Meaning, file: string, entry: string): Pickled {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let place = 0;
  let stack: Pickled[] = [];
  const outer: Pickled[][] = [];
  const memo: Pickled[] = [];
  let memoized = 0;
  let explained = 0;
  let opcode = 0;

  const wrong: Complaining = (rule, got, fix) =>
    damaged(file, `${entry}, byte ${opcode}`, { rule, got, ...(fix === undefined ? {} : { fix }) });
  const skip = (length: number): number => {
    if (length > bytes.length - place)
      throw wrong("A pickle holds what it announces", `${bytes.length - place} bytes for ${length}`);
    place += length;
    return place - length;
  };
  const pop = (): Pickled => {
    const value = stack.pop();
    if (value === undefined) throw wrong("An opcode finds what it takes", "an empty stack");
    return value;
  };
  const top = (): Pickled => {
    const value = stack.at(-1);
    if (value === undefined) throw wrong("An opcode finds what it takes", "an empty stack");
    return value;
  };
  const mark = (): void => {
    if (outer.length >= DEEPEST) throw wrong(`At most ${DEEPEST} lists and tuples are begun inside each other`, "more");
    outer.push(stack);
    stack = [];
  };
  const sinceMark = (): Pickled[] => {
    const items = stack;
    const before = outer.pop();
    if (before === undefined) throw wrong("An opcode finds its mark", "none");
    stack = before;
    return items;
  };
  /** An empty Map takes 200 bytes of memory and an array 40: a file shall not ask for them with one byte each. */
  const made = <T extends Pickled>(container: T): T => {
    explained += container instanceof Map ? BYTES_OF_DICTIONARY : BYTES_OF_LIST;
    if (explained > bytes.length + 2048) {
      const rule = `A pickle has ${BYTES_OF_DICTIONARY} bytes for each dictionary, ${BYTES_OF_LIST} for each list and tuple`;
      throw wrong(rule, "less");
    }
    return container;
  };
  const tuple = (length: number): void => {
    if (stack.length < length) throw wrong("An opcode finds what it takes", `${stack.length} values for ${length}`);
    stack.push(made(stack.splice(stack.length - length)));
  };
  const string = (length: number): string => {
    const at = skip(length);
    try {
      return text.decode(bytes.slice(at, at + length));
    } catch {
      throw wrong("Text is UTF-8", "bytes that are none");
    }
  };
  const line = (): string => {
    const end = bytes.indexOf(10, place);
    const result = string(end < 0 ? bytes.length + 1 : end - place);
    place++;
    return result;
  };
  const large = (at: number): number => Number(view.getBigUint64(at, true));
  const integer = (length: number): number | bigint => {
    if (length > 32) throw wrong("A whole number has at most 32 bytes", `${length}`);
    const at = skip(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i]!);
    const signed = BigInt.asIntN(8 * length, value);
    return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
  };
  const add = (items: readonly Pickled[]): void => {
    const list = top();
    if (list instanceof Unread) return;
    if (!Array.isArray(list)) throw wrong("Items are added to a list", "something else");
    for (const item of items) list.push(item);
  };
  const set = (items: readonly Pickled[]): void => {
    const dictionary = top();
    if (dictionary instanceof Unread) return;
    if (!(dictionary instanceof Map) || items.length % 2 !== 0) {
      throw wrong("Keys and values are added to a dictionary", `${items.length} items for something else`);
    }
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      if (dictionary.has(key)) throw wrong("A dictionary has each key once", `${String(key)} twice`);
      dictionary.set(key, items[i + 1]!);
    }
  };
  const remember = (key: number): void => {
    // Numbered one after the other as they come, each with some bytes of its own.
    if (Math.max(key, memoized++) > bytes.length / 3) throw wrong("What is remembered is numbered from 0 on", `${key}`);
    memo[key] = top();
  };
  const recall = (key: number): void => {
    const value = memo[key];
    if (value === undefined) throw wrong("What is recalled was remembered before", `number ${key}`);
    stack.push(value);
  };
  const named = (name: string): void => {
    stack.push(meaning.isKnown(name) ? new Named(name) : new Unread(name, opcode));
  };
  const unread = (of: Pickled): void => {
    if (!(of instanceof Named || of instanceof Unread)) throw wrong("What is made has a class", "something else");
    stack.push(made(new Unread(of.name, opcode)));
  };

  // By the bytes of pickletools, in its words.
  const opcodes: Readonly<Record<number, () => void>> = {
    128: function proto() {
      const version = bytes[skip(1)]!;
      if (version > 5) throw wrong("Protocols up to 5 are read", `${version}`);
    },
    149: function frame() {
      skip(8);
    },
    40: mark,
    48: function popOne() {
      pop();
    },
    49: function popMark() {
      sinceMark();
    },
    78: () => stack.push(null),
    136: () => stack.push(true),
    137: () => stack.push(false),
    74: () => stack.push(view.getInt32(skip(4), true)),
    75: () => stack.push(bytes[skip(1)]!),
    77: () => stack.push(view.getUint16(skip(2), true)),
    138: () => stack.push(integer(bytes[skip(1)]!)),
    139: () => stack.push(integer(view.getUint32(skip(4), true))),
    71: () => stack.push(view.getFloat64(skip(8), false)),
    85: () => stack.push(string(bytes[skip(1)]!)),
    84: () => stack.push(string(view.getUint32(skip(4), true))),
    140: () => stack.push(string(bytes[skip(1)]!)),
    88: () => stack.push(string(view.getUint32(skip(4), true))),
    141: () => stack.push(string(large(skip(8)))),
    67: () => {
      const length = bytes[skip(1)]!;
      stack.push(bytes.subarray(skip(length), place));
    },
    66: () => {
      const length = view.getUint32(skip(4), true);
      stack.push(bytes.subarray(skip(length), place));
    },
    41: () => stack.push(made([])),
    116: function tupleSinceMark() {
      const items = made(sinceMark());
      stack.push(items);
    },
    133: () => tuple(1),
    134: () => tuple(2),
    135: () => tuple(3),
    93: () => stack.push(made([])),
    97: function append() {
      const item = pop();
      add([item]);
    },
    101: function appends() {
      add(sinceMark());
    },
    125: () => stack.push(made(new Map())),
    115: function setItem() {
      const value = pop();
      set([pop(), value]);
    },
    117: () => set(sinceMark()),
    113: () => remember(bytes[skip(1)]!),
    114: () => remember(view.getUint32(skip(4), true)),
    148: () => remember(memoized),
    104: () => recall(bytes[skip(1)]!),
    106: () => recall(view.getUint32(skip(4), true)),
    99: function global() {
      const module = line();
      named(`${module}.${line()}`);
    },
    147: function stackGlobal() {
      const name = pop();
      named(`${String(pop())}.${String(name)}`);
    },
    82: function reduce() {
      const args = pop();
      const called = pop();
      if (!Array.isArray(args)) throw wrong("A call has a tuple of arguments", "something else");
      if (called instanceof Named) stack.push(made(meaning.call(called.name, args, wrong) as object));
      else unread(called);
    },
    129: function newObject() {
      pop();
      unread(pop());
    },
    146: function newObjectWithNames() {
      pop();
      pop();
      unread(pop());
    },
    98: function build() {
      const attributes = pop();
      const object = top();
      // A state_dict() carries the versions of its modules as an attribute; it is not needed.
      if (object instanceof Unread || (object instanceof Map && attributes instanceof Map)) return;
      throw wrong("Attributes are those of a dictionary", "something else", safer);
    },
    143: () => stack.push(made(new Unread("set", opcode))),
    144: () => add(sinceMark()),
    145: function frozenSet() {
      sinceMark();
      stack.push(made(new Unread("frozenset", opcode)));
    },
    81: () => stack.push(meaning.persistent(pop(), wrong)),
  };

  for (;;) {
    opcode = place;
    const code = bytes[skip(1)]!;
    if (code === STOP) break;
    const step = opcodes[code];
    if (!step) throw wrong("A checkpoint's pickle has the opcodes that torch.save writes", `byte ${code}`, safer);
    step();
    if (stack.length > HIGHEST_STACK) throw wrong(`At most ${HIGHEST_STACK} values wait for their list`, "more");
  }
  const result = pop();
  if (stack.length > 0 || outer.length > 0) throw wrong("A pickle ends with one value", "several");
  return result;
}

const STOP = 46;
