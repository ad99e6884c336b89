import { defineConfig } from "vitest/config";

// Tests of what users get: the packed tarball in an empty project, other versions of Node, a real browser.
// They install packages and start browsers, so they stand apart from `npm test`.
export default defineConfig({
  test: {
    include: ["tests/runtime/*.test.ts"],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    fileParallelism: false,
  },
});
