import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { defineConfig } from "vitest/config";

// "evenkeel-source" makes `import "evenkeel"` and "#workers" mean the sources, so that tests see the code as it is written.
const conditions = ["evenkeel-source", "node", "import", "default"];

// Software GPUs, so that the WebGPU suites run on a machine without a GPU: Mesa's of version 25 on, which has float16, and
// compiles a shader in a fraction of the time; else the one that comes with Debian's chromium.
const software = ["/usr/share/vulkan/icd.d/lvp_icd.json", "/usr/lib/chromium/vk_swiftshader_icd.json"];
const driver = process.env.VK_DRIVER_FILES ?? software.find((path) => existsSync(path));
const env: Record<string, string> = driver ? { VK_DRIVER_FILES: driver } : {};
// Vulkan's window system complains on standard error without it.
if (!process.env.XDG_RUNTIME_DIR) env.XDG_RUNTIME_DIR = tmpdir();

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    env,
    globalSetup: "tests/distributed/say_what_is_missing.ts",
    // Where a missing adapter is a failure and not a reason to skip, as in CI.
    provide: { requireWebGPU: process.env.EVENKEEL_REQUIRE_WEBGPU === "1", float16: false, share: 1 },
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    exclude: ["tests/runtime/**", "**/node_modules/**"],
    testTimeout: 180_000,
    hookTimeout: 120_000,
    // Each file owns threads and a heap of its own; more files at once than cores only makes the timing tests noisy.
    maxWorkers: 2,
  },
});
