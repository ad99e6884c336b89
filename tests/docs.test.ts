import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { format } from "node:util";
import ts from "typescript";
import { describe, expect, test, vi } from "vitest";
import { buildIfStale, program, start } from "./cli/built.js";

/** What an example may import. */
const modules: Record<string, () => Promise<unknown>> = {
  evenkeel: () => import("../src/index.js"),
  "evenkeel/compat": () => import("../src/compat/index.js"),
  "evenkeel/distributed": () => import("../src/distributed/index.js"),
  "evenkeel/data": () => import("../src/data/index.js"),
  "evenkeel/io": () => import("../src/io/index.js"),
  "evenkeel/train": () => import("../src/train/index.js"),
  "onnxruntime-web": () => import("onnxruntime-web"),
  "evenkeel/tfjs": () => import("../src/tfjs/index.js"),
  "@tensorflow/tfjs": tensorflow,
};

/** What the package @tensorflow/tfjs is made of, as far as the examples need it. */
async function tensorflow(): Promise<unknown> {
  const core = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-backend-cpu");
  core.env().set("PROD", true); // keeps its advice for Node out of the output
  return { ...core, ...(await import("@tensorflow/tfjs-layers")) };
}

const folder = new URL("../docs/", import.meta.url);
const textOf = (page: string): string => readFileSync(new URL(page, folder), "utf8");
const norms = readdirSync(new URL("norms/", folder)).map((f) => `norms/${f}`);
const pages = ["profile.md", "capture.md", "from-tensorflow-js.md", "onnx-import.md", ...norms].filter(
  (f) => f.endsWith(".md") && textOf(f).includes("```js\n"),
);

/**
 * Pages that work on files, with those that they begin with, from tests/golden. Their blocks run in a folder of their own, one after
 * the other: js as below, and what sh has of `npx evenkeel`, which ends well and prints what a text block behind it says.
 */
const guides: Record<string, Record<string, string>> = {
  "from-pytorch.md": { "model.pt": "guide_model.pt" },
  "from-keras.md": { "model.keras": "guide_model.keras" },
  "onnx.md": {},
};

/** A block as a function body: imports become requires, so that the sources are what runs. */
function compile(code: string): (require: (name: string) => unknown) => Promise<void> {
  const { outputText } = ts.transpileModule(code, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  return new Function("require", `return (async () => { const exports = {}; ${outputText} })();`) as never;
}

async function runBlock(code: string): Promise<void> {
  const listed = code.split("// Prints:\n")[1];
  const said = listed
    ? [...listed.matchAll(/^\/\/ (.*)$/gm)].map((match) => match[1])
    : [...code.matchAll(/\); \/\/ -> (.*)/g)].map((match) => match[1]);
  const needed = [...code.matchAll(/from "([^"]*)"/g)].map((match) => match[1]!);
  const loaded = new Map<string, unknown>();
  for (const name of needed) loaded.set(name, await modules[name]!());
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...values) => {
    printed.push(format(...values));
  });
  try {
    await compile(code)((name) => loaded.get(name));
  } finally {
    log.mockRestore();
  }
  expect(printed).toEqual(said);
}

const blocksOf = (page: string): { kind: string; text: string }[] =>
  [...textOf(page).matchAll(/```(\w+)\n([\s\S]*?)```/g)].map((match) => ({ kind: match[1]!, text: match[2]! }));

describe.each(pages)("docs/%s", (page) => {
  const blocks = blocksOf(page).flatMap(({ kind, text }) => (kind === "js" ? [text] : []));
  test.each(blocks)("prints what it says: %s", runBlock);
});

test.each(Object.keys(guides))(
  "docs/%s does what it says, block by block",
  async (page) => {
    buildIfStale();
    const place = mkdtempSync(join(tmpdir(), "evenkeel-guide-"));
    const before = process.cwd();
    const golden = new URL("golden/", import.meta.url);
    for (const [name, recorded] of Object.entries(guides[page]!))
      copyFileSync(new URL(recorded, golden), join(place, name));
    process.chdir(place);
    try {
      const blocks = blocksOf(page);
      for (const [i, { kind, text }] of blocks.entries()) {
        if (kind === "js") await runBlock(text);
        if (kind !== "sh") continue;
        let out = "";
        for (const [, args] of text.matchAll(/^npx evenkeel (.*)$/gm)) {
          const finished = await start(program, args!.split(" "), place).done;
          expect({ code: finished.code, err: finished.err }, args).toEqual({ code: 0, err: "" });
          out += finished.out;
        }
        if (blocks[i + 1]?.kind === "text") expect(out).toBe(blocks[i + 1]!.text);
      }
    } finally {
      process.chdir(before);
      rmSync(place, { recursive: true, force: true });
    }
  },
  240_000,
);
