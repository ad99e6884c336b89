import { OptionError } from "./errors.js";

/** The known name nearest to a mistyped one, or undefined when none is near. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const d = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (d < bestDistance) {
      bestDistance = d;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next[j] = Math.min(change, row[j]! + 1, next[j - 1]! + 1);
    }
    row = next;
  }
  return row[b.length]!;
}

/**
 * Options with defaults filled in. An explicit undefined counts as absent.
 * Throws OptionError for a name that is not among the defaults, with the nearest name that is.
 */
export function readOptions<T extends object>(owner: string, given: object | undefined, defaults: T): T {
  if (given === undefined) return { ...defaults };
  if (given === null || typeof given !== "object" || Array.isArray(given)) {
    throw new OptionError({ rule: `${owner} takes its options as one object`, got: JSON.stringify(given) ?? "null" });
  }
  const known = Object.keys(defaults);
  const result = { ...defaults } as Record<string, unknown>;
  for (const [name, value] of Object.entries(given)) {
    if (!known.includes(name)) throw unknownName(`${owner} has the options ${known.join(", ")}`, name, known);
    if (value !== undefined) result[name] = value;
  }
  return result as T;
}

/** The error for a name outside a known set; suggests the nearest one. */
export function unknownName(rule: string, name: string, known: readonly string[]): OptionError {
  const near = nearestName(name, known);
  return new OptionError({ rule, got: `"${name}"`, ...(near ? { fix: `Did you mean "${near}"?` } : {}) });
}

/** Checks a number; `where` reads as "must be ...", for example "at least 0". NaN never passes. */
export function checkNumber(what: string, value: unknown, where: string, test: (v: number) => boolean): number {
  if (typeof value !== "number" || Number.isNaN(value) || !test(value)) {
    throw new OptionError({ rule: `${what} must be ${where}`, got: String(value) });
  }
  return value;
}

export const checkPositiveInteger = (what: string, value: unknown): number =>
  checkNumber(what, value, "a whole number of at least 1", (v) => Number.isInteger(v) && v >= 1);

export const checkProbability = (what: string, value: unknown): number =>
  checkNumber(what, value, "a number in [0, 1]", (v) => v >= 0 && v <= 1);

export const checkNonNegative = (what: string, value: unknown): number =>
  checkNumber(what, value, "a finite number of at least 0", (v) => v >= 0 && Number.isFinite(v));

export const checkBoolean = (what: string, value: unknown): boolean => {
  if (typeof value !== "boolean") throw new OptionError({ rule: `${what} must be true or false`, got: String(value) });
  return value;
};

/** One of a few words. */
export function checkChoice<T extends string>(what: string, value: unknown, choices: readonly T[]): T {
  if (choices.includes(value as T)) return value as T;
  const listed = choices.map((c) => `"${c}"`).join(" or ");
  if (typeof value === "string") throw unknownName(`${what} must be ${listed}`, value, choices);
  throw new OptionError({ rule: `${what} must be ${listed}`, got: String(value) });
}
