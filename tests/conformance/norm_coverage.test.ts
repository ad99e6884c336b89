import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Module } from "../../src/nn/module.js";
import * as norms from "../../src/nn/norm/index.js";

/** Exported modules of the room that are no normalization themselves, each with its reason. */
const noNorms: Record<string, string> = {};

test("every normalization layer keeps to the contract", () => {
  const folder = new URL("../../src/nn/norm/", import.meta.url);
  const tests = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".test.ts"));
  const text = tests.map((f) => readFileSync(new URL(f, folder), "utf8")).filter((t) => t.includes("normContract("));
  const layers = Object.entries(norms)
    .filter(([, value]) => typeof value === "function" && value.prototype instanceof Module)
    .map(([name]) => name)
    .filter((name) => !(name in noNorms));
  expect(
    layers.filter((name) => !text.some((t) => t.includes(`name: "${name}"`) || t.includes(`["${name}",`))),
  ).toEqual([]);
  expect(layers.length).toBeGreaterThanOrEqual(10);
});
