import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { FormatError } from "../base/errors.js";

/** A file that was read, and unpacked if it was gzip. */
export interface DataFile {
  /** Full path, for error texts. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** No file of the formats read here comes near this; a small .gz that claims more is damaged or hostile. */
const unpackedLimit = 2 ** 30;

/** The names in a folder, and a way to read those that a dataset consists of. */
export class DataFolder {
  readonly path: string;
  readonly names: readonly string[];

  /** Throws FormatError if there is no such folder. `expected` says what should be in it. */
  constructor(
    path: string | URL,
    readonly expected: string,
  ) {
    this.path = path instanceof URL ? fileURLToPath(path) : String(path);
    try {
      this.names = readdirSync(this.path).sort();
    } catch (error) {
      throw new FormatError(
        { rule: `Needs a folder with ${expected}`, got: `${this.path} (${reason(error)})`, fix: "Name that folder" },
        { cause: error },
      );
    }
  }

  /** Reads the first of these names that is there, plain or with .gz. Throws FormatError if none is. */
  read(...names: string[]): DataFile {
    const present = names.flatMap((name) => [name, `${name}.gz`]).find((name) => this.names.includes(name));
    if (present === undefined) {
      throw new FormatError({
        rule: `${names.join(" or ")} (plain or .gz) must be in the folder`,
        got: `${this.path} with ${this.listing()}`,
        fix: `Expected are ${this.expected}`,
      });
    }
    return readDataFile(join(this.path, present));
  }

  private listing(): string {
    if (this.names.length === 0) return "nothing in it";
    const rest = this.names.length > 6 ? ` and ${this.names.length - 6} more` : "";
    return this.names.slice(0, 6).join(", ") + rest;
  }
}

function readDataFile(path: string): DataFile {
  let raw: Uint8Array;
  try {
    raw = readFileSync(path);
  } catch (error) {
    throw new FormatError(
      { rule: "A data file must be readable", got: `${path} (${reason(error)})` },
      { cause: error },
    );
  }
  // By content: download tools unpack a .gz and keep its name, or keep it packed under the plain name.
  if (raw[0] !== 0x1f || raw[1] !== 0x8b) return { path, bytes: raw };
  try {
    return { path, bytes: gunzipSync(raw, { maxOutputLength: unpackedLimit }) };
  } catch (error) {
    throw new FormatError(
      {
        rule: "A .gz file must unpack whole, to at most 1 GiB",
        got: `${path}, ${count(raw.length)} bytes (${reason(error)})`,
        fix: "It is damaged or cut short: download it again",
      },
      { cause: error },
    );
  }
}

const reason = (error: unknown): string =>
  (error as NodeJS.ErrnoException).code ?? (error instanceof Error ? error.message : String(error));

/** 47040016 as "47,040,016". */
export const count = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
