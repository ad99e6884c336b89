import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { convNet } from "../../../src/cli/models.js";
import { DataLoader, digits } from "../../../src/data/index.js";
import { F, manualSeed, noGrad, optim, scope, tensor, zeros } from "../../../src/index.js";
import { exportOnnx } from "../../../src/io/index.js";
import { chromiumPath, launch, serve } from "../../runtime/chromium.js";

const repository = fileURLToPath(new URL("../../../", import.meta.url));

/** What the page draws: a stroke down the middle. */
const stroke = Float32Array.from({ length: 64 }, (_, i) => (i % 8 === 4 && i >= 8 && i < 56 ? 1 : 0));

test.skipIf(!chromiumPath)("the page of docs/onnx.md says which digit it is", async () => {
  manualSeed(0);
  const { train, ...about } = digits();
  const model = convNet(about, "batch");
  const optimizer = new optim.AdamW(model.parameters(), { lr: 2e-3 });
  for (const batch of new DataLoader(train, { batchSize: 32, shuffle: true, seed: 0 })) {
    scope(() => {
      const loss = F.crossEntropy(model.forward(batch.x), batch.y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    });
  }
  model.eval();
  const logits = noGrad(() => model.forward(tensor(stroke, { shape: [1, 1, 8, 8] }))).dataSync();
  const folder = mkdtempSync(join(tmpdir(), "onnx-page-"));
  const page = readFileSync(join(repository, "docs/onnx.md"), "utf8").match(/```html\n([\s\S]*?)```/)![1]!;
  writeFileSync(join(folder, "index.html"), page);
  exportOnnx(model, zeros([1, 1, 8, 8]), { path: join(folder, "digits.onnx"), fold: true });
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(repository, "node_modules/onnxruntime-web"), join(folder, "node_modules/onnxruntime-web"));
  const server = await serve(folder, false);
  const browser = await launch("none");
  try {
    const opened = await browser.newPage();
    const complaints: string[] = [];
    opened.on("pageerror", (error) => complaints.push(String(error)));
    await opened.goto(server.url);
    await opened.waitForFunction(() => document.querySelector("#answer")!.textContent !== "...", undefined, {
      timeout: 20_000,
    });
    expect(complaints).toEqual([]);
    const digit = logits.indexOf(Math.max(...logits));
    expect(await opened.textContent("#answer")).toBe(`Digit ${digit}`);
  } finally {
    await browser.close();
    server.close();
    rmSync(folder, { recursive: true });
  }
});
