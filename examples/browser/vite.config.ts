import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const source = (path: string): string => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));

// Pages with these two headers are cross-origin isolated: only they may share memory, which threads need.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  // Relative addresses, so that the build works in any folder of any server.
  base: "./",
  resolve: {
    // The public names of the package and its platform parts, as a bundler would find them for a browser, but from the sources.
    alias: [
      { find: /^evenkeel$/, replacement: source("index.ts") },
      { find: /^evenkeel\/data$/, replacement: source("data/browser.ts") },
      { find: /^evenkeel\/train$/, replacement: source("train/browser.ts") },
      { find: /^evenkeel\/webgpu$/, replacement: source("kernels/webgpu/index.ts") },
      { find: /^#blas$/, replacement: source("kernels/blas/find_browser.ts") },
      { find: /^#gpu$/, replacement: source("kernels/webgpu/find_browser.ts") },
      { find: /^#workers$/, replacement: source("kernels/threads/workers_browser.ts") },
    ],
  },
  server: { headers },
  preview: { headers },
  worker: { format: "es" },
  build: { outDir: "dist", emptyOutDir: true, target: "es2022" },
});
