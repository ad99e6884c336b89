import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumPath, reportOf } from "./chromium.js";
import { emptyProject, root, run } from "./project.js";

let project: ReturnType<typeof emptyProject>;
beforeAll(() => {
  project = emptyProject();
  const quiet = ["--no-save", "--no-audit", "--no-fund", "--prefer-offline"];
  run("npm", ["install", ...quiet, "@tensorflow/tfjs@4.22.0"], project.folder);
});
afterAll(() => project?.remove());

const tool = (path: string, ...args: string[]): string =>
  run(process.execPath, [join(root, "node_modules", path), ...args], project.folder);

describe("evenkeel/tfjs beside the package @tensorflow/tfjs, as its users import it", () => {
  test("trains, saves and reads in Node", () => {
    const said = JSON.parse(run(process.execPath, ["tfjs_main.js"], project.folder));
    const read = ["Dense", "BatchNormalization", "RMSNormalization"];
    expect(said).toEqual({ isLayer: true, learned: true, read, difference: 0 });
  });

  test("has types", () => {
    const compilerOptions = {
      ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
      // TensorFlow.js's own types do not hold up without it.
      ...{ skipLibCheck: true, types: [], noEmit: true, target: "es2022", lib: ["es2023", "esnext.disposable", "dom"] },
      ...{ module: "nodenext", moduleResolution: "nodenext" },
    };
    writeFileSync(join(project.folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["types_tfjs.ts"] }));
    tool("typescript/bin/tsc", "-p", "tsconfig.json");
  });

  test.skipIf(!chromiumPath)("gives on WebGL what the kernels give, and trains there", async () => {
    writeFileSync(
      join(project.folder, "index.html"),
      '<!doctype html><meta charset="utf-8"><script type="module" src="./tfjs_page.js"></script>',
    );
    tool("vite/bin/vite.js", "build", "--minify", "false", "--logLevel", "error");
    const said = (await reportOf(join(project.folder, "dist"), false, "webgl")) as {
      error?: string;
      errors: Record<string, number>;
      trained: { learned: boolean; left: number };
    };
    expect(said.error).toBeUndefined();
    expect(Object.keys(said.errors)).toHaveLength(18);
    // Sums of a few dozen values in float32, in another order.
    for (const [name, error] of Object.entries(said.errors))
      expect({ name, fits: error < 1e-6 }).toEqual({ name, fits: true });
    expect(said.trained).toEqual({ learned: true, left: 0 });
  });
});
