import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { defineConfig } from "vitest/config";

// "evenkeel-source" makes `import "evenkeel"` and "#workers" mean the sources, so that tests see the code as it is written.
const conditions = ["evenkeel-source", "node", "import", "default"];

// The software GPU that comes with Debian's chromium, so that the WebGPU suites run on a machine without a GPU.
const software = "/usr/lib/chromium/vk_swiftshader_icd.json";
const env: Record<string, string> =
  !process.env.VK_DRIVER_FILES && existsSync(software) ? { VK_DRIVER_FILES: software } : {};
// Vulkan's window system complains on standard error without it.
if (!process.env.XDG_RUNTIME_DIR) env.XDG_RUNTIME_DIR = tmpdir();

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    env,
    // Where a missing adapter is a failure and not a reason to skip, as in CI.
    provide: { requireWebGPU: process.env.EVENKEEL_REQUIRE_WEBGPU === "1" },
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    exclude: ["tests/runtime/**", "**/node_modules/**"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Each file owns threads and a heap of its own; more files at once than cores only makes the timing tests noisy.
    maxWorkers: 2,
  },
});
