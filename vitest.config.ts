import { defineConfig } from "vitest/config";

// "evenkeel-source" makes `import "evenkeel"` and "#workers" mean the sources, so that tests see the code as it is written.
const conditions = ["evenkeel-source", "node", "import", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts"],
    exclude: ["tests/runtime/**", "**/node_modules/**"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Each file owns threads and a heap of its own; more files at once than cores only makes the timing tests noisy.
    maxWorkers: 2,
  },
});
