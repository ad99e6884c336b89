import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { type Browser, chromium } from "playwright";

/** Where systems put Chromium; undefined where there is none. */
export const chromiumPath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((p) =>
  existsSync(p),
);

const quiet = [
  ...["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ...["--disable-quic", "--no-first-run"],
];

/** WebGPU in software, WebGL in software, or no GPU at all. */
const gpus = {
  software: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
  webgl: ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  none: ["--disable-gpu"],
};

export const launchOptions = (gpu: keyof typeof gpus) => ({
  executablePath: chromiumPath!,
  args: [...quiet, ...gpus[gpu]],
});

export const launch = (gpu: keyof typeof gpus): Promise<Browser> => chromium.launch(launchOptions(gpu));

const types: Record<string, string> = {
  ...{ ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css" },
  ".wasm": "application/wasm",
};

/** Serves a folder on loopback, with the headers of cross-origin isolation or without them. */
export async function serve(folder: string, isolated: boolean): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, "http://localhost");
    const path = join(folder, pathname === "/" ? "index.html" : pathname);
    if (isolated) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    }
    response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
    if (existsSync(path)) response.end(readFileSync(path));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

/** Serves a folder on loopback, opens it in a headless browser, and waits for what the page reports. */
export async function reportOf(folder: string, isolated: boolean, gpu: keyof typeof gpus): Promise<unknown> {
  const [site, browser] = [await serve(folder, isolated), await launch(gpu)];
  try {
    const page = await browser.newPage();
    await page.goto(site.url);
    const reported = await page.waitForFunction(() => (globalThis as { reported?: unknown }).reported, null, {
      timeout: 120_000,
    });
    return await reported.jsonValue();
  } finally {
    await browser.close();
    site.close();
  }
}
