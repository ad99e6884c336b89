import { InvalidArgumentError } from "commander";
import { nearestName } from "../base/options.js";

/** Parsers of option values; what they throw becomes a usage error in one line. */
export const oneOf =
  <T extends string>(names: readonly T[]) =>
  (value: string): T => {
    if (names.includes(value as T)) return value as T;
    const near = nearestName(value, names);
    throw new InvalidArgumentError(
      `It is one of ${names.join(", ")}.${near === undefined ? "" : ` Did you mean "${near}"?`}`,
    );
  };

export const listOf =
  <T>(parse: (value: string) => T) =>
  (value: string): T[] =>
    value.split(",").map((part) => parse(part.trim()));

export function count(value: string): number {
  const n = Number(value);
  if (!/^\d+$/.test(value) || n < 1 || !Number.isSafeInteger(n)) {
    throw new InvalidArgumentError("It is a whole number of at least 1.");
  }
  return n;
}

export function wholeNumber(value: string): number {
  const n = Number(value);
  if (!/^-?\d+$/.test(value) || !Number.isSafeInteger(n)) throw new InvalidArgumentError("It is a whole number.");
  return n;
}

export function threads(value: string): number {
  const n = count(value);
  if (n > 64) throw new InvalidArgumentError("It is a whole number from 1 to 64.");
  return n;
}

export function rate(value: string): number {
  const n = Number(value);
  if (value.trim() === "" || !Number.isFinite(n) || n <= 0) throw new InvalidArgumentError("It is a number above 0.");
  return n;
}
