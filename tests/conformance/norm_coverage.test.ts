import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Module } from "../../src/nn/module.js";
import * as norms from "../../src/nn/norm/index.js";

const layers = Object.entries(norms)
  .filter(([, value]) => typeof value === "function" && value.prototype instanceof Module)
  .map(([name]) => name);

function textsOf(path: string, wanted: (file: string) => boolean): string[] {
  const folder = new URL(path, import.meta.url);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(wanted);
  return files.map((f) => readFileSync(new URL(f, folder), "utf8"));
}

test("every normalization layer keeps to the contract", () => {
  const contracts = textsOf("../../src/nn/norm/", (f) => f.endsWith(".test.ts")).filter((t) =>
    t.includes("normContract("),
  );
  const signed = (name: string) => contracts.some((t) => t.includes(`name: "${name}"`) || t.includes(`["${name}",`));
  expect(layers.filter((name) => !signed(name))).toEqual([]);
  expect(layers.length).toBeGreaterThanOrEqual(40);
});

test("every normalization layer has its place in the docs", () => {
  const pages = textsOf("../../docs/norms/", (f) => f.endsWith(".md") && f !== "README.md" && f !== "which_when.md");
  const told = (name: string) => pages.some((text) => new RegExp(`\\b${name}\\b`).test(text));
  expect(layers.filter((name) => !told(name))).toEqual([]);
});

/** Layers without recorded values of their own, each with what holds it instead. */
const withoutGolden: Record<string, string> = {
  AddLayerNorm: "equal to LayerNorm of the sum, which has recorded values",
  AddRMSNorm: "equal to RMSNorm of the sum, which has recorded values",
  InPlaceActivatedBatchNorm: "equal to BatchNorm2d and LeakyReLU, which have recorded values",
};

test("every normalization layer has values recorded from an independent source", () => {
  const recorded = textsOf("../golden/", (f) => f.endsWith(".json") && !f.startsWith("compat"));
  const missing = layers.filter((name) => !recorded.some((text) => text.includes(`"${name}"`)));
  // An alias is the same class.
  expect(missing.filter((name) => name !== "GlobalResponseNorm")).toEqual(Object.keys(withoutGolden));
});
