import { damaged } from "../damage.js";

/** A JSON value; objects are Maps, so that no key means anything. */
export type Json = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

/** No header nests deeper than 3. */
const DEEPEST = 32;

/** Objects and lists take a hundred bytes of memory; in a header each has 17 or more, and a file shall not ask for more with less. */
const LEAST_CONTAINER = 16;

/** Longer ones are refused: no count and no place in a file needs them. */
const LONGEST_NUMBER = 64;

const numberToken = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/;
const QUOTE = 34;
const BACKSLASH = 92;

const words: readonly (readonly [string, Json])[] = [
  ["true", true],
  ["false", false],
  ["null", null],
];

/**
 * JSON (RFC 8259) in UTF-8 in which no object has a key twice, where JSON.parse would keep the last one. `at` is the place of the
 * bytes in the file. Throws FormatError.
 */
export function parseStrictJson(bytes: Uint8Array, file: string, at: number): Json {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
  } catch (error) {
    throw damaged(file, at, { rule: "JSON must be UTF-8", got: "bytes that are none" }, error);
  }
  let place = 0;
  const wrong = (wanted: string): Error => {
    const got = place < text.length ? JSON.stringify(text.slice(place, place + 20)) : "the end of the text";
    return damaged(file, `JSON at byte ${at}, character ${place}`, { rule: `The text must be JSON: ${wanted}`, got });
  };
  // By hand and not by expressions, whose memory grows with what they match.
  const skip = (): void => {
    while (" \t\n\r".includes(text[place] ?? "?")) place++;
  };
  const take = (mark: string): boolean => {
    skip();
    if (text[place] !== mark) return false;
    place++;
    skip();
    return true;
  };
  const string = (wanted: string): string => {
    if (text[place] !== '"') throw wrong(wanted);
    let end = place + 1;
    for (let code = text.charCodeAt(end); end < text.length && code !== QUOTE; code = text.charCodeAt(end)) {
      end += code === BACKSLASH ? 2 : 1;
    }
    try {
      const result = JSON.parse(text.slice(place, end + 1)) as string;
      place = end + 1;
      return result;
    } catch {
      throw wrong("a string");
    }
  };
  const list = (end: string, item: () => void): void => {
    if (take(end)) return;
    do item();
    while (take(","));
    if (!take(end)) throw wrong(`"," or "${end}"`);
  };
  let containers = 0;
  const contained = (): void => {
    if (++containers > 256 + bytes.length / LEAST_CONTAINER)
      throw wrong(`${LEAST_CONTAINER} bytes for each object and list`);
  };
  const value = (depth: number): Json => {
    if (depth > DEEPEST) throw wrong(`at most ${DEEPEST} levels of nesting`);
    if (take("{")) {
      contained();
      const object = new Map<string, Json>();
      list("}", () => {
        const key = string("a key");
        if (object.has(key)) throw wrong(`each key once, not ${JSON.stringify(key)} twice`);
        if (!take(":")) throw wrong('":"');
        object.set(key, value(depth + 1));
      });
      return object;
    }
    if (take("[")) {
      contained();
      const array: Json[] = [];
      list("]", () => array.push(value(depth + 1)));
      return array;
    }
    if (text[place] === '"') return string("a string");
    const number = numberToken.exec(text.slice(place, place + LONGEST_NUMBER))?.[0];
    if (number !== undefined) {
      place += number.length;
      return Number(number);
    }
    for (const [word, meaning] of words) {
      if (!text.startsWith(word, place)) continue;
      place += word.length;
      return meaning;
    }
    throw wrong("a value");
  };
  skip();
  const result = value(0);
  skip();
  if (place < text.length) throw wrong("nothing after the value");
  return result;
}
