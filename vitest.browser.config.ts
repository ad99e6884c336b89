import { readdirSync, readFileSync } from "node:fs";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { chromiumPath, launchOptions } from "./tests/runtime/chromium.js";

// The conformance suite of Node in a real Chromium: the same files, on WASM with threads and on the browser's WebGPU.

const requireWebGPU = process.env.EVENKEEL_REQUIRE_WEBGPU === "1";
if (!chromiumPath) {
  const reason = "No Chromium, so no tests in one (on Debian: apt install chromium)";
  if (requireWebGPU) throw new Error(reason);
  console.warn(reason);
}

const norms = "src/nn/norm/";
const contracts = readdirSync(norms)
  .filter((file) => file.endsWith(".test.ts") && readFileSync(norms + file, "utf8").includes("normContract("))
  .map((file) => norms + file);

export default defineConfig({
  // Sources, and of "#gpu", "#workers" and "#blas" what browsers get.
  resolve: { conditions: ["evenkeel-source", "browser", "import", "default"] },
  // Nothing but vitest's own packages is loaded; one found while tests run would reload the page under them.
  optimizeDeps: { noDiscovery: true },
  server: {
    headers: {
      // SharedArrayBuffer, and so more than one thread, exists on isolated pages only.
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    },
  },
  test: {
    include: chromiumPath
      ? ["tests/conformance/*.test.ts", "tests/webgpu/*.test.ts", "src/nn/layers.test.ts", ...contracts]
      : [],
    exclude: [
      // They look for names in the files of tests and docs.
      "tests/conformance/coverage.test.ts",
      "tests/conformance/norm_coverage.test.ts",
      // Ranks are Node's threads.
      "src/nn/norm/sync_batch_norm.test.ts",
      // Node's processes, and what its Dawn says where something goes wrong.
      "tests/webgpu/process.test.ts",
      "tests/webgpu/awkward.test.ts",
      // Files on a disk, and data sets read from it.
      "tests/webgpu/saving.test.ts",
      "tests/webgpu/onnx.test.ts",
      "tests/webgpu/float16_training.test.ts",
      // Minutes of shaders on a software GPU, which Node runs through the same driver.
      "tests/webgpu/*_accuracy.test.ts",
    ],
    passWithNoTests: !chromiumPath,
    provide: { requireWebGPU, float16: false, share: Number(process.env.EVENKEEL_CONFORMANCE_SHARE ?? 1) },
    testTimeout: 240_000,
    hookTimeout: 120_000,
    // All files in one page: one device, whose compiled shaders all of them use.
    isolate: false,
    fileParallelism: false,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: launchOptions("software") }),
      instances: [{ browser: "chromium" }],
    },
  },
});
