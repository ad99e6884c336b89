import { parseArgs } from "node:util";

export class UsageError extends Error {}

/** The values of a command line; throws UsageError with one clear line. */
export function parse(args, options) {
  try {
    return parseArgs({ args, options }).values;
  } catch (error) {
    throw new UsageError(error.message.split("\n")[0]);
  }
}

const isNamed = ({ name }, text) =>
  text
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => name.split(" ").includes(word));

/** Throws UsageError for a text that names none of the cells. */
export function checkNames(texts, cells) {
  const none = texts.find((text) => !cells.some((cell) => isNamed(cell, text)));
  if (none !== undefined) throw new UsageError(`--only "${none}" is the name of no cell; --list prints them all`);
}

/** The cells that any of the texts names by its words, or all without a text. */
export const choose = (texts, cells) =>
  texts.length === 0 ? cells : cells.filter((cell) => texts.some((text) => isNamed(cell, text)));
