import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { reference } from "../../src/kernels/reference/index.js";
import { wasm } from "../../src/kernels/wasm/index.js";
import { webgpu } from "../../src/kernels/webgpu/kernels.js";
import { offDevice } from "./off_device.js";

/** Kernels that run on reference for float32 too, each with its reason. */
const referenceOnly: Record<string, string> = {
  updateRunning:
    "one number a channel, in double precision, with + and * only: nothing to gain and the same bits anywhere",
};

const kernels = Object.keys(reference);

test("every kernel has conformance cases", () => {
  const folder = new URL(".", import.meta.url);
  const tests = readdirSync(folder).filter((f) => f.endsWith(".test.ts") && f !== "coverage.test.ts");
  const text = tests.map((f) => readFileSync(new URL(f, folder), "utf8")).join("\n");
  expect(kernels.filter((name) => !text.includes(`.${name}(`))).toEqual([]);
  expect(kernels.length).toBeGreaterThanOrEqual(41);
});

test("every kernel has a WebGPU form", () => {
  expect(Object.keys(webgpu).sort()).toEqual([...kernels].sort());
});

test("every kernel has a WASM form, or a reason to have none", () => {
  expect(kernels.filter((name) => !(name in wasm))).toEqual(Object.keys(referenceOnly));
  expect(Object.keys(wasm).filter((name) => !(name in reference))).toEqual([]);
});

test("what is listed as not running on WebGPU has a test that it does not", () => {
  const src = new URL("../../src/nn/", import.meta.url);
  const tests = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".test.ts"));
  const files = [...tests.map((f) => new URL(f, src)), new URL("../webgpu/ops.test.ts", import.meta.url)];
  const text = files.map((f) => readFileSync(f, "utf8")).join("\n");
  const named = (name: string) => [`name: "${name}"`, `["${name}",`, `"${name}":`].some((t) => text.includes(t));
  expect(Object.keys(offDevice).filter((name) => !named(name))).toEqual([]);
});
