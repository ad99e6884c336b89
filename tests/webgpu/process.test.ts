import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildIfStale, type Finished, program, start } from "../cli/built.js";
import { noWebGPU } from "../conformance/webgpu_mirror.js";

const root = new URL("../../", import.meta.url).pathname;
let folder: string;

beforeAll(() => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "evenkeel-gpu-"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const trainAStep = (dist: string) => `
import { nn, optim, scope, tensor } from "${dist}/index.js";
import { initWebGPU } from "${dist}/kernels/webgpu/index.js";
await initWebGPU();
const model = new nn.Sequential(new nn.Linear(2, 16), new nn.LayerNorm(16), new nn.Linear(16, 1)).to("webgpu");
const optimizer = new optim.AdamW(model.parameters());
const x = tensor([[0, 1], [1, 0]], { device: "webgpu" });
const loss = scope(() => {
  optimizer.zeroGrad();
  const value = model.forward(x).square().mean();
  value.backward();
  optimizer.step();
  return value.detach();
});
`;

/** Runs a script, and says how long the process took to end after its last line. */
async function ends(text: string, dist = join(root, "dist"), name = "script.mjs"): Promise<Finished & { lag: number }> {
  const path = join(folder, name);
  writeFileSync(path, trainAStep(dist) + text);
  const running = start(path, [], folder);
  let last = performance.now();
  running.child.stdout!.on("data", () => {
    last = performance.now();
  });
  const finished = await running.done;
  return { ...finished, err: withoutDawn(finished.err), lag: performance.now() - last };
}

/** Dawn itself warns of drivers' limits and of drivers that are missing, when it looks for adapters. */
const withoutDawn = (err: string): string => err.replace(/^(Warning: .*| +at Check.*|)\n/gm, "");

describe.skipIf(noWebGPU !== null)(`a process with a device${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  const line = "console.log((await loss.data())[0] >= 0);";
  test.each([
    ["when its script ends", `${line}`, 0],
    ["while a reading is under way", `${line} void loss.data();`, 0],
    ["while commands wait", `${line} model.forward(x);`, 0],
    ["by process.exit", `${line} model.forward(x); process.exit(3);`, 3],
    ["by process.exit while a reading is under way", `${line} void loss.data(); process.exit(0);`, 0],
  ])("ends at once and silently: %s", async (_, text, code) => {
    const { lag, ...rest } = await ends(text);
    expect(rest).toEqual({ code, out: "true\n", err: "" });
    expect(lag).toBeLessThan(2000);
  });

  test.each([
    ["an exception", "throw new Error('on purpose');"],
    ["a rejection that nobody waits for", "void Promise.reject(new Error('on purpose'));"],
  ])("ends by %s with code 1, of which alone it tells", async (_, text) => {
    const { code, err, lag } = await ends(`${line}\n${text}`);
    expect(code).toBe(1);
    expect(err.match(/^Error: on purpose/gm)).toHaveLength(1);
    expect(err).not.toMatch(/lost|destroyed|device/i);
    expect(lag).toBeLessThan(2000);
  });

  test("says by one typed error that its device went, and can go on with another", async () => {
    const { code, out, err } = await ends(`
const reading = loss.data();
const { theGpu } = await import("${join(root, "dist")}/kernels/webgpu/device.js");
theGpu().device.destroy();
await reading.catch((error) => console.log(error.name));
await initWebGPU();
console.log((await tensor([1], { device: "webgpu" }).add(1).data())[0]);
`);
    expect({ code, out, err }).toEqual({ code: 0, out: "DeviceError\n2\n", err: "" });
  });
});

describe("a process without a device", () => {
  const noDriver = { VK_DRIVER_FILES: "/nonexistent.json" };
  const failing = async (name: string, dist: string, env: Record<string, string>) => {
    const text = `import { initWebGPU } from "${dist}/kernels/webgpu/index.js";
await initWebGPU().catch((error) => console.log(error.name, error.message));`;
    writeFileSync(join(folder, name), text);
    const { code, out, err } = await start(join(folder, name), [], folder, env).done;
    return { code, out, err: withoutDawn(err) };
  };

  test("without an adapter it says so, and what to install", async () => {
    const { code, out, err } = await failing("no_adapter.mjs", join(root, "dist"), noDriver);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^DeviceError WebGPU needs a platform that has it; got no adapter was found\. .*[Ii]nstall/);
  });

  test("without the package it says so, and what to install", async () => {
    const dist = join(folder, "bare/dist");
    cpSync(join(root, "dist"), dist, { recursive: true });
    cpSync(join(root, "package.json"), join(folder, "bare/package.json"));
    const { code, out, err } = await failing("bare/no_package.mjs", dist, {});
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^DeviceError .*got Dawn, the WebGPU of Node, is not installed: npm install webgpu\.\n$/);
  });

  test("the command line says it in one line", async () => {
    const { code, out, err } = await start(program, ["train", "--device", "webgpu"], folder, noDriver).done;
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(withoutDawn(err)).toMatch(
      /^evenkeel: WebGPU needs a platform that has it; got no adapter was found\. .*\n$/,
    );
  });
});

describe.skipIf(noWebGPU !== null)(`evenkeel train --device webgpu${noWebGPU ? ` (${noWebGPU})` : ""}`, () => {
  const quick = ["train", "--batch-size", "512", "--norm", "group", "--json", "--out"];
  const lastLine = (out: string) => JSON.parse(out.trimEnd().split("\n").at(-1)!);
  const summary = () => JSON.parse(readFileSync(join(folder, "run/summary.json"), "utf8"));

  test("names the device, stops on Ctrl-C with a checkpoint, and goes on there as if it had not", async () => {
    const whole = await start(program, [...quick, "run", "--device", "webgpu", "--epochs", "4"], folder).done;
    expect(whole).toMatchObject({ code: 0, err: expect.stringContaining("group on webgpu:") });
    expect(summary()).toMatchObject({ settings: { device: "webgpu" }, machine: expect.stringMatching(/, webgpu: ./) });
    const { lossHash, testAccuracy } = lastLine(whole.out);

    const cut = start(program, [...quick, "cut", "--device", "webgpu", "--epochs", "4"], folder);
    await cut.until(() => existsSync(join(folder, "cut/events.jsonl")));
    await cut.until(() => /"type":"checkpoint"/.test(readFileSync(join(folder, "cut/events.jsonl"), "utf8")));
    cut.child.kill("SIGINT");
    expect(await cut.done).toMatchObject({
      code: 130,
      err: expect.stringMatching(/Go on with: evenkeel train --resume/),
    });
    const resumed = await start(program, ["train", "--resume", "cut", "--json"], folder).done;
    expect(resumed).toMatchObject({ code: 0, err: expect.stringContaining("group on webgpu:") });
    expect(lastLine(resumed.out)).toMatchObject({ lossHash, testAccuracy });

    const onCPU = await start(program, ["train", "--resume", "cut", "--device", "cpu", "--epochs", "5"], folder).done;
    expect(onCPU).toMatchObject({ code: 0, err: expect.stringMatching(/^group: /m) });
  }, 240_000);
});
