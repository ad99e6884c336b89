import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { emptyProject, root, run } from "./project.js";

const chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((p) =>
  existsSync(p),
);
const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript" };

/** Serves a folder on loopback, opens it in a headless browser, and waits for what the page posts to /result. */
async function open(folder: string, isolated: boolean): Promise<Record<string, unknown>> {
  let report!: (value: Record<string, unknown>) => void;
  const reported = new Promise<Record<string, unknown>>((resolve) => {
    report = resolve;
  });
  const server = createServer(async (request, response) => {
    if (request.method === "POST") {
      let body = "";
      for await (const chunk of request) body += chunk;
      response.end();
      report(JSON.parse(body));
      return;
    }
    const path = join(folder, request.url === "/" ? "index.html" : request.url!);
    if (isolated) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    }
    response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
    if (existsSync(path)) response.end(readFileSync(path));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const profile = mkdtempSync(join(tmpdir(), "evenkeel-browser-"));
  const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const flags = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    `--user-data-dir=${profile}`,
    ...quiet,
  ];
  const browser = spawn(chromium!, [...flags, "--remote-debugging-port=0", url], {
    stdio: "ignore",
    detached: true,
  });
  const ended = new Promise<void>((resolve) => browser.once("exit", () => resolve()));
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error("the page reported nothing within 120 s")), 120_000).unref();
  });
  try {
    return await Promise.race([reported, late]);
  } finally {
    // The whole process group: helpers of the browser outlive it for a moment and go on writing to its profile.
    process.kill(-browser.pid!, "SIGKILL");
    await ended;
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

describe.skipIf(!chromium)("in a browser (skipped where no chromium is installed)", () => {
  let project: ReturnType<typeof emptyProject>;
  let node: { one: string };
  beforeAll(() => {
    project = emptyProject();
    node = JSON.parse(run(process.execPath, ["node_main.js"], project.folder));
    writeFileSync(
      join(project.folder, "index.html"),
      '<!doctype html><meta charset="utf-8"><script type="module" src="./browser_main.js"></script>',
    );
    run(process.execPath, [join(root, "node_modules/vite/bin/vite.js"), "build", "--logLevel", "warn"], project.folder);
  });
  afterAll(() => project?.remove());

  test("a cross-origin isolated page trains with threads and gives the bits that Node gives", async () => {
    const result = await open(join(project.folder, "dist"), true);
    expect(result).toEqual({ isolated: true, threads: 2, one: node.one, two: node.one });
  });

  test("any other page trains on one thread and gives the same bits", async () => {
    const result = await open(join(project.folder, "dist"), false);
    expect(result).toMatchObject({ isolated: false, one: node.one, two: node.one });
  });
});
