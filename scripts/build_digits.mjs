// Turns data/digits.csv.gz into a TypeScript module, so that `digits()` needs no file system and works in a browser.
// One character a value: pixels 0 to 16 as "0".."9", "a".."g"; the last character of a line is the class.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const csv = gunzipSync(readFileSync(new URL("../data/digits.csv.gz", import.meta.url))).toString("utf8");
const lines = csv
  .trim()
  .split("\n")
  .map((line) =>
    line
      .split(",")
      .map((v) => Number(v).toString(17))
      .join(""),
  );
if (lines.length !== 1797 || lines.some((line) => !/^[0-9a-g]{64}[0-9]$/.test(line))) {
  throw new Error("data/digits.csv.gz is not the expected 1,797 lines of 64 pixels and a class");
}
const folder = new URL("../src/data/generated/", import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(
  new URL("digits_text.ts", folder),
  `// Written by scripts/build_digits.mjs from data/digits.csv.gz (CC BY 4.0, see data/README.md).\nexport const digitsText = \`${lines.join("\n")}\`;\n`,
);
