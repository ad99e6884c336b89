import { readdirSync, readFileSync } from "node:fs";
import { format } from "node:util";
import ts from "typescript";
import { describe, expect, test, vi } from "vitest";

/** What an example may import. */
const modules: Record<string, () => Promise<unknown>> = {
  evenkeel: () => import("../src/index.js"),
  "evenkeel/compat": () => import("../src/compat/index.js"),
  "evenkeel/distributed": () => import("../src/distributed/index.js"),
  "evenkeel/data": () => import("../src/data/index.js"),
  "evenkeel/train": () => import("../src/train/index.js"),
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
const pages = ["profile.md", "capture.md", "from-tensorflow-js.md", ...norms].filter(
  (f) => f.endsWith(".md") && textOf(f).includes("```js\n"),
);

/** A block as a function body: imports become requires, so that the sources are what runs. */
function compile(code: string): (require: (name: string) => unknown) => Promise<void> {
  const { outputText } = ts.transpileModule(code, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  return new Function("require", `return (async () => { const exports = {}; ${outputText} })();`) as never;
}

describe.each(pages)("docs/%s", (page) => {
  const blocks = [...textOf(page).matchAll(/```js\n([\s\S]*?)```/g)].map((match) => match[1]!);

  test.each(blocks)("prints what it says: %s", async (code) => {
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
  });
});
