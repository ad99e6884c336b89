import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { chromiumPath, launch, serve } from "./chromium.js";
import { root, run } from "./project.js";

/** Digits as somebody may write them: strokes of points, in shares of the pad. */
const drawings: Record<number, [number, number][][]> = {
  1: [
    [
      [0.42, 0.25],
      [0.54, 0.12],
      [0.53, 0.5],
      [0.52, 0.88],
    ],
  ],
  2: [
    [
      [0.27, 0.3],
      [0.36, 0.17],
      [0.52, 0.13],
      [0.66, 0.22],
      [0.66, 0.38],
      [0.5, 0.58],
      [0.27, 0.83],
      [0.5, 0.82],
      [0.74, 0.84],
    ],
  ],
  3: [
    [
      [0.28, 0.2],
      [0.45, 0.12],
      [0.64, 0.2],
      [0.64, 0.36],
      [0.44, 0.46],
      [0.66, 0.56],
      [0.7, 0.72],
      [0.52, 0.86],
      [0.27, 0.8],
    ],
  ],
  4: [
    [
      [0.5, 0.12],
      [0.26, 0.56],
      [0.78, 0.55],
    ],
    [
      [0.62, 0.34],
      [0.58, 0.62],
      [0.56, 0.9],
    ],
  ],
  7: [
    [
      [0.26, 0.16],
      [0.5, 0.14],
      [0.74, 0.16],
      [0.6, 0.45],
      [0.42, 0.88],
    ],
    [
      [0.34, 0.5],
      [0.7, 0.5],
    ],
  ],
};

interface Opened {
  readonly page: Page;
  readonly complaints: string[];
}

describe.skipIf(!chromiumPath)("the demo page (skipped where no chromium is installed)", () => {
  let folder = "";
  let sites: Record<"isolated" | "plain", { url: string; close: () => void }>;
  let browsers: Record<"software" | "none", Browser>;
  let opened: Opened[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "evenkeel-demo-"));
    const vite = join(root, "node_modules/vite/bin/vite.js");
    const config = join(root, "examples/browser/vite.config.ts");
    run(process.execPath, [vite, "build", "--config", config, "--outDir", folder, "--logLevel", "warn"], root);
    sites = { isolated: await serve(folder, true), plain: await serve(folder, false) };
    browsers = { software: await launch("software"), none: await launch("none") };
  });

  afterAll(async () => {
    for (const browser of Object.values(browsers ?? {})) await browser.close();
    for (const site of Object.values(sites ?? {})) site.close();
    rmSync(folder, { recursive: true, force: true });
  });

  afterEach(async () => {
    const seen = opened;
    opened = [];
    for (const { page } of seen) await page.close();
    expect(seen.flatMap(({ complaints }) => complaints)).toEqual([]);
  });

  async function open(
    site: "isolated" | "plain",
    options: BrowserContextOptions = {},
    gpu: "software" | "none" = "none",
  ): Promise<Page> {
    const page = await browsers[gpu].newPage(options);
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(`console: ${message.text()}`);
    });
    opened.push({ page, complaints });
    await page.goto(sites[site].url);
    await page.waitForFunction(() => !document.querySelector<HTMLButtonElement>("#run")!.disabled);
    return page;
  }

  const text = async (page: Page, id: string): Promise<string> => (await page.textContent(`#${id}`))!;
  const number = async (page: Page, id: string): Promise<number> =>
    Number.parseFloat((await text(page, id)).replaceAll(",", ""));

  /** Waits until an element's text fits. */
  const until = (page: Page, id: string, pattern: RegExp, timeout = 30_000): Promise<unknown> =>
    page.waitForFunction(
      ([name, source, flags]) => new RegExp(source!, flags).test(document.getElementById(name!)!.textContent),
      [id, pattern.source, pattern.flags],
      { timeout },
    );

  const untilStep = (page: Page, step: number, timeout = 30_000): Promise<unknown> =>
    page.waitForFunction(
      (least) => Number(document.getElementById("step")!.textContent.replaceAll(",", "")) >= least,
      step,
      { timeout },
    );

  const reach95 = (page: Page, timeout?: number): Promise<unknown> => until(page, "reached", /\d/, timeout);

  async function draw(page: Page, digit: number): Promise<void> {
    await page.click("#clear");
    await page.locator("#pad").scrollIntoViewIfNeeded();
    const box = (await page.locator("#pad").boundingBox())!;
    for (const stroke of drawings[digit]!) {
      for (const [i, [x, y]] of stroke.entries()) {
        await page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: i === 0 ? 1 : 4 });
        if (i === 0) await page.mouse.down();
      }
      await page.mouse.up();
    }
  }

  test("trains to 95 % on the CPU with threads, shows what its layers do, and reads what is drawn", async () => {
    const page = await open("isolated");
    expect(await text(page, "device-note")).toMatch(/^CPU, (\d+ threads|one thread: this machine)/);
    await page.click("#run");
    await reach95(page);
    await untilStep(page, 150);
    expect(await number(page, "speed")).toBeGreaterThan(1);
    for (const digit of Object.keys(drawings)) {
      await draw(page, Number(digit));
      await until(page, "verdict", new RegExp(`a ${digit}\\.$`, "i"), 5_000);
    }
    expect(await page.locator("#layers tr").count()).toBe(4);
    const figures = await page.locator("#layers td").allTextContents();
    expect(figures).toHaveLength(20);
    expect(figures.filter((f) => f !== "–").every((f) => Number.isFinite(Number.parseFloat(f)))).toBe(true);
    const charts = await page.locator(".plot").evaluateAll((boxes) => boxes.map((b) => b.getAttribute("aria-label")));
    expect(charts).toHaveLength(4);
    for (const label of charts) expect(label).toMatch(/ at step \d+: .* \d/);
  });

  test.each([
    [1280, 720],
    [360, 740],
  ])("the pad stays where it is while the page learns and reads (%i x %i)", async (width, height) => {
    const page = await open("isolated", { viewport: { width, height } });
    // Of the whole card, since a page that gets shorter moves what is on it when it was scrolled to its end.
    const seen = await page.evaluateHandle(() => {
      const [pad, card] = [document.getElementById("pad")!, document.querySelector(".drawing")!];
      const places = new Map<string, string>();
      const look = () => {
        const where = [pad.getBoundingClientRect().top + scrollY, card.getBoundingClientRect().bottom + scrollY].join();
        const texts = ["status", "device-note", "verdict"].map((id) => document.getElementById(id)!.textContent);
        if (!places.has(where)) places.set(where, texts.join(" | "));
        requestAnimationFrame(look);
      };
      look();
      return places;
    });
    await draw(page, 2);
    await until(page, "verdict", /^A guess/);
    await page.click("#run");
    await untilStep(page, 20);
    for (let round = 0; round < 3; round++) {
      await page.click("#clear");
      await until(page, "verdict", /^Draw something/);
      await draw(page, 3);
      await until(page, "verdict", /a \d\.$/i);
      await untilStep(page, 20 * (round + 2));
    }
    const places = await page.evaluate((places) => [...places], seen);
    expect(places, places.map((place) => place.join(": ")).join("\n")).toHaveLength(1);
  });

  test("without the headers it says that there is one thread, and trains", async () => {
    const page = await open("plain");
    expect(await text(page, "device-note")).toContain("one thread: the page is not cross-origin isolated");
    await page.selectOption("#normalization", "group");
    await page.click("#run");
    await reach95(page);
  });

  test("every normalization trains, with what is switched while it does", async () => {
    const page = await open("isolated");
    await page.selectOption("#pace", "20");
    await page.click("#run");
    await untilStep(page, 12);
    const options = await page.locator("#normalization option").all();
    expect(options.length).toBeGreaterThan(6);
    for (const option of options.slice(1)) {
      await page.selectOption("#normalization", await option.getAttribute("value"));
      await until(page, "step", /^\d$/);
      await untilStep(page, 20);
      // Guessing costs ln 10.
      expect(await number(page, "loss"), (await option.textContent())!).toBeLessThan(Math.log(10));
    }
    const before = await number(page, "step");
    await page.selectOption("#batch-size", "8");
    await untilStep(page, before + 20);
    expect(await number(page, "step")).toBeGreaterThan(before);
    await page.selectOption("#pace", "4");
    await until(page, "speed", /^[2-5](\.\d)?$/);
    await page.click("#run");
    await until(page, "status", /^Paused/);
    const paused = await number(page, "step");
    await page.waitForTimeout(500);
    expect(await number(page, "step")).toBe(paused);
    expect(await number(page, "speed")).toBeGreaterThan(0);
    await page.click("#reset");
    await until(page, "step", /^0$/);
  });

  test("trains to 95 % on WebGPU, reads a drawing there, goes on on the CPU and back with the same weights, and survives its loss", async () => {
    const page = await open("isolated", {}, "software");
    await page.selectOption("#device", "webgpu");
    await until(page, "device-note", /^WebGPU/);
    await page.click("#run");
    await reach95(page, 150_000);
    await draw(page, 3);
    await until(page, "verdict", /a 3\.$/i, 60_000);
    const [step, accuracy] = [await number(page, "step"), await number(page, "accuracy")];
    await page.selectOption("#device", "cpu");
    await until(page, "device-note", /^CPU/);
    // Had it begun anew, ten steps would not bring it near.
    await untilStep(page, Math.ceil((step + 5) / 10) * 10);
    expect(await number(page, "step")).toBeGreaterThan(step);
    expect(await number(page, "accuracy")).toBeGreaterThan(accuracy - 4);
    await untilStep(page, step + 100);
    const there = await number(page, "step");
    await page.selectOption("#device", "webgpu");
    await until(page, "device-note", /^WebGPU/);
    await untilStep(page, there + 2);
    expect(await number(page, "loss")).toBeLessThan(0.5);
    expect(await text(page, "status")).toBe("Training.");
    await (await browsers.software.newBrowserCDPSession()).send("Browser.crashGpuProcess");
    await until(page, "alert", /^The GPU gave up\. .*lost/);
    expect(await text(page, "run")).toBe("Start");
    await page.selectOption("#device", "cpu");
    await page.click("#run");
    await reach95(page);
  });

  test("says in a sentence that there is no WebGPU, and that a learning rate was too large", async () => {
    const page = await open("isolated");
    await page.selectOption("#device", "webgpu");
    await until(page, "alert", /^No WebGPU here, so training stays on the CPU\. .*WebGPU/);
    expect(await page.inputValue("#device")).toBe("cpu");
    await page.selectOption("#learning-rate", "1000000");
    await page.click("#run");
    await until(page, "alert", /^The loss became not a number at step \d+\. .*choose a smaller one/);
    await page.selectOption("#learning-rate", "0.005");
    await page.click("#run");
    await reach95(page);
    expect(await page.isHidden("#alert")).toBe(true);
  });

  test("works with the keyboard alone", async () => {
    const page = await open("isolated");
    const focused = () => page.evaluate(() => document.activeElement!.id || document.activeElement!.textContent);
    const order: (string | null)[] = [];
    for (let i = 0; i < 7; i++) {
      await page.keyboard.press("Tab");
      order.push(await focused());
    }
    expect(order).toEqual(["normalization", "device", "batch-size", "learning-rate", "pace", "run", "reset"]);
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await reach95(page);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("pad");
    expect(await page.locator("#pad").evaluate((pad) => getComputedStyle(pad).outlineStyle)).toBe("solid");
    for (let i = 0; i < 8; i++) await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Space");
    for (let i = 0; i < 16; i++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Space");
    await until(page, "verdict", /a 1\.$/i);
    await page.keyboard.press("Delete");
    await until(page, "verdict", /^Draw something/);
    await page.locator("#samples button").nth(6).focus();
    await page.keyboard.press("Space");
    await until(page, "verdict", /a 6\.$/i);
  });

  test("fits a phone, where a finger draws", async () => {
    const page = await open("plain", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
    await page.tap("#run");
    await reach95(page);
    const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth, visualViewport!.width]);
    expect(wide).toEqual([360, 360, 360]);
    const finger = await page.context().newCDPSession(page);
    await page.locator("#pad").scrollIntoViewIfNeeded();
    const box = (await page.locator("#pad").boundingBox())!;
    const top = await page.evaluate(() => scrollY);
    for (const stroke of drawings[7]!) {
      for (const [i, [x, y]] of stroke.entries()) {
        const touchPoints = [{ x: box.x + x * box.width, y: box.y + y * box.height }];
        await finger.send("Input.dispatchTouchEvent", { type: i === 0 ? "touchStart" : "touchMove", touchPoints });
      }
      await finger.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
    }
    await until(page, "verdict", /a 7\.$/i);
    expect(await page.evaluate(() => scrollY)).toBe(top);
  });

  test.each(["light", "dark"] as const)("in %s mode text stands out from what it is on", async (colorScheme) => {
    const page = await open("isolated", { colorScheme, reducedMotion: "reduce" });
    const colours = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const context = document.createElement("canvas").getContext("2d")!;
      const names = ["paper", "card", "field", "ink", "soft", "focus", "on-focus", "bad", "bad-paper", "edge"];
      const lines = ["line-0", "line-1", "line-2", "line-3"];
      return Object.fromEntries(
        [...names, ...lines].map((name) => {
          context.fillStyle = style.getPropertyValue(`--${name}`).trim();
          context.fillRect(0, 0, 1, 1);
          return [name, [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)];
        }),
      );
    });
    const light = (name: string): number => {
      const [r, g, b] = colours[name]!.map((v) =>
        v <= 10 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4,
      ) as number[];
      return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
    };
    /** Of WCAG 2: text needs 4.5, what is drawn 3. */
    const contrast = (a: string, b: string): number =>
      (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    expect(light("paper") > 0.5).toBe(colorScheme === "light");
    for (const [ink, ground] of [
      ["ink", "paper"],
      ["ink", "card"],
      ["ink", "field"],
      ["soft", "paper"],
      ["soft", "card"],
      ["on-focus", "focus"],
      ["bad", "bad-paper"],
    ] as const) {
      expect(contrast(ink, ground), `${ink} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
    for (const [line, ground] of [
      ["line-0", "card"],
      ["line-1", "card"],
      ["line-2", "card"],
      ["line-3", "card"],
      ["focus", "card"],
      ["edge", "card"],
      ["edge", "field"],
    ] as const) {
      expect(contrast(line, ground), `${line} on ${ground}`).toBeGreaterThanOrEqual(3);
    }
    expect(
      await page
        .locator(".track i")
        .first()
        .evaluate((bar) => getComputedStyle(bar).transitionProperty),
    ).toBe("none");
  });
});
