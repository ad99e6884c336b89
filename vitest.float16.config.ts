import { existsSync } from "node:fs";
import { defineConfig } from "vitest/config";
import base from "./vitest.config.js";

// Mesa's software GPU has shader-f16, which that of Debian's chromium lacks.
const software = "/usr/share/vulkan/icd.d/lvp_icd.json";
const driver: Record<string, string> = existsSync(software) ? { VK_DRIVER_FILES: software } : {};

/** The conformance suites with float16 in the place of float32, and what is about float16 alone. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    env: { ...base.test?.env, ...driver, EVENKEEL_TEST_FLOAT16: "1" },
    include: ["tests/conformance/*.test.ts", "tests/webgpu/float16*.test.ts"],
    testNamePattern: /float16/,
  },
});
