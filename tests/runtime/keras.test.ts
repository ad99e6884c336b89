import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumPath, reportOf } from "./chromium.js";
import { emptyProject, root, run } from "./project.js";

// HDF5 runs in a worker that is started otherwise in Node than in browsers, and from a package that may not be installed.

let project: ReturnType<typeof emptyProject>;
beforeAll(() => {
  project = emptyProject();
  mkdirSync(join(project.folder, "public"));
  for (const name of ["v3.keras", "v2_model.h5"]) {
    cpSync(join(root, `tests/io/files/keras_${name}`), join(project.folder, "public", name));
  }
});
afterAll(() => project?.remove());

const steps = `
  import { openKeras, saveKerasWeights } from "evenkeel/io";
  export async function readAndWrite(input) {
    try {
      const file = await openKeras(input);
      const tensors = new Map();
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      file.close();
      const saved = await saveKerasWeights(tensors);
      const again = await openKeras(saved);
      const sums = [...tensors.keys()].map(async (name) => (await again.read(name)).data.reduce((a, b) => a + b, 0));
      const sum = (await Promise.all(sums)).reduce((a, b) => a + b, 0);
      const refused = await openKeras(saved.slice(0, 2500)).catch((error) => error.message);
      again.close();
      return { count: tensors.size, sum: sum.toFixed(3), refused };
    } catch (error) {
      return { error: error.message };
    }
  }`;

const inNode = (path: string): { error?: string } => {
  writeFileSync(join(project.folder, "steps.js"), steps);
  const call = `import { readAndWrite } from "./steps.js"; console.log(JSON.stringify(await readAndWrite(${JSON.stringify(path)})));`;
  writeFileSync(join(project.folder, "call.js"), call);
  return JSON.parse(run(process.execPath, ["call.js"], project.folder));
};

const refused = expect.stringMatching(/^An HDF5 file must be readable by the HDF5 library; got truncated file/);

describe("Keras files from the packed package", () => {
  test("without h5wasm say what to install", () => {
    expect(inNode("public/v3.keras").error).toBe(
      "Keras files are read and written with h5wasm; got none: h5wasm is not installed. Run npm install h5wasm.",
    );
  });

  test("are read and written in Node, and in a browser from what Vite builds, with the same numbers", async () => {
    run(
      "npm",
      ["install", "--no-save", "--no-audit", "--no-fund", "--prefer-offline", "h5wasm@0.10.3"],
      project.folder,
    );
    const archive = inNode("public/v3.keras");
    const model = inNode("public/v2_model.h5");
    expect(archive).toEqual({ count: 29, sum: expect.any(String), refused });
    expect(model).toEqual({ count: 11, sum: expect.any(String), refused });
    if (!chromiumPath) return;
    const page = `import { readAndWrite } from "./steps.js";
      const blob = async (url) => (await fetch(url)).blob();
      globalThis.reported = [await readAndWrite(new URL("v3.keras", location.href)), await readAndWrite(await blob("v2_model.h5"))];`;
    writeFileSync(join(project.folder, "page.js"), page);
    writeFileSync(join(project.folder, "index.html"), '<!doctype html><script type="module" src="./page.js"></script>');
    const vite = join(root, "node_modules/vite/bin/vite.js");
    run(process.execPath, [vite, "build", "--logLevel", "warn"], project.folder);
    expect(await reportOf(join(project.folder, "dist"), false, "none")).toEqual([archive, model]);
  });
});
