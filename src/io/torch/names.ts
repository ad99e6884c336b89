import { damaged } from "../damage.js";
import { StoredTensor } from "./meaning.js";
import { Named, type Pickled, Unread } from "./pickle.js";

export interface NamedValues {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

const DEEPEST = 32;

/**
 * Nested dictionaries and lists as names joined with ".": tensors on the one hand, numbers and texts (as JSON would write them) on the
 * other. Throws what `refused` makes of an object that is not read. Parts that a pickle refers to more than once are repeated, up to what `room` (the pickle's bytes) explains.
 */
export function namedValues(
  value: Pickled,
  room: number,
  file: string,
  refused: (object: Unread) => Error,
): NamedValues {
  const tensors = new Map<string, StoredTensor>();
  const metadata = new Map<string, string>();
  let steps = 0;
  let letters = 0;
  const wrong = (name: string, rule: string, got: string): Error =>
    damaged(file, JSON.stringify(name.slice(0, 80)), { rule, got });
  const visit = (name: string, item: Pickled, depth: number): void => {
    if (depth > DEEPEST)
      throw wrong(name, `A checkpoint nests at most ${DEEPEST} deep`, "a deeper one, or one that holds itself");
    letters += name.length;
    if (++steps > room + 64 || letters > 16 * room + 65536) {
      throw wrong(name, "A checkpoint refers to its parts a few times", "names without end");
    }
    if (item instanceof Unread) throw refused(item);
    const inside = (key: unknown): string => (name === "" ? String(key) : `${name}.${key}`);
    if (item instanceof Map) {
      for (const [key, inner] of item) {
        if (typeof key !== "string" && typeof key !== "number") {
          throw wrong(name, "Keys are texts and numbers", key === null ? "None" : typeof key);
        }
        visit(inside(key), inner, depth + 1);
      }
      return;
    }
    if (Array.isArray(item)) {
      for (const [i, inner] of item.entries()) visit(inside(i), inner, depth + 1);
      return;
    }
    if (tensors.has(name) || metadata.has(name)) throw wrong(name, 'Names joined with "." are different', "one twice");
    if (item instanceof StoredTensor) tensors.set(name === "" ? "tensor" : name, item);
    else metadata.set(name, textOf(item));
  };
  visit("", value, 0);
  return { tensors, metadata };
}

function textOf(value: Pickled): string {
  if (value instanceof Named) return value.name;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return value !== null && typeof value === "object" ? "storage" : String(value);
}
