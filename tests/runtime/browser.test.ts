import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumPath, reportOf } from "./chromium.js";
import { emptyProject, root, run } from "./project.js";

describe.skipIf(!chromiumPath)("in a browser (skipped where no chromium is installed)", () => {
  let project: ReturnType<typeof emptyProject>;
  let node: { one: string };
  beforeAll(() => {
    project = emptyProject();
    node = JSON.parse(run(process.execPath, ["node_main.js"], project.folder));
    writeFileSync(
      join(project.folder, "index.html"),
      '<!doctype html><meta charset="utf-8"><script type="module" src="./browser_main.js"></script>',
    );
    run(process.execPath, [join(root, "node_modules/vite/bin/vite.js"), "build", "--logLevel", "warn"], project.folder);
  });
  afterAll(() => project?.remove());

  test("a cross-origin isolated page trains with threads and gives the bits that Node gives", async () => {
    const result = await reportOf(join(project.folder, "dist"), true, "none");
    expect(result).toEqual({ isolated: true, threads: 2, one: node.one, two: node.one });
  });

  test("any other page trains on one thread and gives the same bits", async () => {
    const result = await reportOf(join(project.folder, "dist"), false, "none");
    expect(result).toMatchObject({ isolated: false, one: node.one, two: node.one });
  });
});
