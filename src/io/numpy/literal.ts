import { damaged } from "../damage.js";

/** What stands in an npy header: Python's literals, of which this reads text, whole numbers, booleans, tuples, lists and dictionaries. */
export type Literal = string | number | boolean | null | readonly Literal[] | ReadonlyMap<string, Literal>;

/** The types of structured arrays nest; nothing that is read nests deeper than 2. */
const DEEPEST = 16;

// A whole number of Python 2 may end with L. 20 digits are more than any place in a file needs.
const token = /[ \t\r\n]*(?:'([^'\\\n]*)'|"([^"\\\n]*)"|(-?\d{1,20})L?|(True|False|None)|([{}()[\],:]))/y;

const words: Readonly<Record<string, boolean | null>> = { True: true, False: false, None: null };

/** Reads one literal by a grammar of a few tokens. Throws FormatError for anything else, so nothing can be executed. */
export function parseLiteral(text: string, file: string, where: string): Literal {
  let place = 0;
  let mark = "";
  let constant: string | number | boolean | null | undefined;
  const wrong = (wanted: string): Error =>
    damaged(file, where, {
      rule: `An npy header is a Python literal: ${wanted}`,
      got: JSON.stringify(text.slice(place, place + 20)),
    });
  const next = (): void => {
    token.lastIndex = place;
    const found = token.exec(text);
    if (!found) throw wrong(`text, whole numbers, True, False and brackets, at character ${place}`);
    const [, single, double, number, word, sign] = found;
    mark = sign ?? "";
    constant =
      single ?? double ?? (number !== undefined ? Number(number) : word !== undefined ? words[word] : undefined);
    place = token.lastIndex;
  };
  /** Items up to the closing bracket; a comma may follow the last one. */
  const items = (end: string, item: () => void): boolean => {
    let comma = true;
    for (next(); mark !== end; ) {
      if (!comma) throw wrong(`"," or "${end}"`);
      item();
      next();
      comma = mark === ",";
      if (comma) next();
    }
    return comma;
  };
  const value = (depth: number): Literal => {
    if (depth > DEEPEST) throw wrong(`at most ${DEEPEST} levels of nesting`);
    if (mark === "{") {
      const dictionary = new Map<string, Literal>();
      items("}", () => {
        const key = constant;
        if (mark !== "" || typeof key !== "string" || dictionary.has(key)) throw wrong("each key once");
        next();
        if ((mark as string) !== ":") throw wrong('":"');
        next();
        dictionary.set(key, value(depth + 1));
      });
      return dictionary;
    }
    if (mark === "(" || mark === "[") {
      const list: Literal[] = [];
      const open = mark;
      const comma = items(open === "(" ? ")" : "]", () => list.push(value(depth + 1)));
      // (3) is a number in brackets.
      return open === "(" && list.length === 1 && !comma ? list[0]! : list;
    }
    if (mark !== "") throw wrong("a value");
    return constant as Literal;
  };
  next();
  const result = value(0);
  if (text.slice(place).trim() !== "") throw wrong("nothing after the value");
  return result;
}
