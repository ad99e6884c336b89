import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { Operator, OperatorTable } from "../../src/io/onnx/operator.js";
import { families, OPSETS } from "../../src/io/onnx/operators/index.js";
import { microsoftOperators } from "../../src/io/onnx/operators/microsoft.js";

const page = new URL("../../docs/onnx-import.md", import.meta.url);
const [begin, end] = ["<!-- operators -->\n", "<!-- end of operators -->"];

/** Opsets that change what an operator takes or means, from the first that is read on. */
function changes(entry: Operator | readonly Operator[]): string {
  const meanings = "run" in entry ? [entry] : entry;
  const all = meanings.flatMap(({ since, moved = {}, attributes = {} }) => [
    since,
    ...Object.values(moved).map((m) => m.at),
    ...Object.values(attributes).map((a) => a.since ?? 1),
  ]);
  const later = [...new Set(all)].filter((v) => v > OPSETS.least).sort((a, b) => a - b);
  const until = meanings.flatMap((m) => m.until ?? []).map((v) => `until ${v - 1}`);
  const notes = [...later, ...until];
  return notes.length > 0 ? ` (${notes.join(", ")})` : "";
}

const item = (family: string, table: OperatorTable): string =>
  `- **${family}**: ${Object.entries(table)
    .map(([name, entry]) => `${name}${changes(entry)}`)
    .sort()
    .join(", ")}\n`;

/** The list of docs/onnx-import.md: `WRITE_DOCS=1 npx vitest run tests/io/onnx_in_docs.test.ts` writes it. */
it("the page lists the operators that there are", () => {
  const all = [...Object.entries(families), ['Of the domain "com.microsoft"', microsoftOperators] as const];
  const count = all.reduce((n, [, t]) => n + Object.keys(t).length, 0);
  const list = `\n${count} operators.\n\n${all.map(([f, t]) => item(f, t)).join("")}\n`;
  const text = readFileSync(page, "utf8");
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  const made = text.slice(0, from) + list + text.slice(to);
  if (process.env.WRITE_DOCS) writeFileSync(page, made);
  expect(readFileSync(page, "utf8")).toBe(made);
});
