import { defineConfig } from "vitest/config";
import base from "./vitest.config.js";

/** The conformance suites with float16 in the place of float32, and what is about float16 alone. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    provide: { ...base.test?.provide, float16: true, share: Number(process.env.EVENKEEL_CONFORMANCE_SHARE ?? 1) },
    include: ["tests/conformance/*.test.ts", "tests/webgpu/float16*.test.ts"],
    testNamePattern: /float16/,
  },
});
