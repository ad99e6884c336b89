import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { binary, unary } from "../../../src/autograd/ops/elementwise.js";
import { translations } from "../../../src/io/onnx/write/translations.js";

/** Ops that no forward pass in evaluation without gradients reaches, each with the reason. */
const unreached: Record<string, string> = {
  take_valid: "masked layers compute with masks where they are traced, as on a GPU",
  put_valid: "the same",
  bucket_norm: "the same",
  group_gradient: "gradients over several ranks",
  normalize_beside: "statistics in training over several ranks",
  join_moments: "the same",
};

const folders = ["autograd/ops/", "io/onnx/operators/"].map((f) => new URL(`../../../src/${f}`, import.meta.url));
const sources = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((f) => f.endsWith(".ts") && !f.endsWith(".test.ts"))
    .map((f) => readFileSync(new URL(f, folder), "utf8")),
);
const text = sources.filter((source) => /define(Op|Norm|Rescale)/.test(source)).join("\n");

/** Names that ops are defined with, bar those that are computed: elementwise ones, and max and min. */
const literal = [...text.matchAll(/\b(?:name: |defineNorm\(|defineRescale\(\s*|: elementwise\()"(\w+)"/g)].map(
  (match) => match[1]!,
);
const names = new Set([...literal, ...Object.keys(unary), ...Object.keys(binary), "max", "min"]);

test("every op has a form in ONNX, or a reason to have none", () => {
  const isGradient = (name: string) => /_(grad|pick)$/.test(name);
  const missing = [...names].filter((name) => !translations.has(name) && !isGradient(name));
  expect(missing.sort()).toEqual(Object.keys(unreached).sort());
  expect(names.size).toBeGreaterThanOrEqual(90);
});

test("what is translated is an op", () => {
  // A convolution's gradient to its input is the transposed convolution.
  expect([...translations.keys()].filter((name) => !names.has(name))).toEqual([]);
});
