import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { OptionError } from "../base/errors.js";
import { digits } from "./digits.js";

/** The 1,797 lines of the file that the generated module was made from, as numbers. */
function csvRows(): number[][] {
  const text = gunzipSync(readFileSync(new URL("../../data/digits.csv.gz", import.meta.url))).toString("utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => line.split(",").map(Number));
}

const row = (data: { images: Float32Array; labels: Int32Array }, i: number): string =>
  [...data.images.subarray(i * 64, i * 64 + 64).map((v) => v * 16), data.labels[i]].join(",");

test("both parts together are the file, each line once, in the file's order", () => {
  const { train, test: held } = digits();
  expect([train.length, held.length]).toEqual([1437, 360]);
  const parts = [train, held].map((part) => Array.from({ length: part.length }, (_, i) => row(part, i)));
  const lines = csvRows().map((numbers) => numbers.join(","));
  expect(parts.flat().sort()).toEqual([...lines].sort());
  for (const part of parts) {
    let at = -1;
    for (const line of part) {
      at = lines.indexOf(line, at + 1);
      expect(at).toBeGreaterThanOrEqual(0);
    }
  }
});

test("images are float32 in [0, 1], labels int32, shapes as promised", () => {
  const { train, classes, imageShape } = digits();
  expect(classes).toBe(10);
  expect(imageShape).toEqual([1, 8, 8]);
  expect(train.sampleShape).toEqual([1, 8, 8]);
  expect(train.images).toBeInstanceOf(Float32Array);
  expect(train.labels).toBeInstanceOf(Int32Array);
  expect(Math.min(...train.images)).toBe(0);
  expect(Math.max(...train.images)).toBe(1);
});

test("the split keeps the share of each class within one sample", () => {
  const { test: held } = digits();
  const total = new Array(10).fill(0);
  for (const numbers of csvRows()) total[numbers[64]!]++;
  const counts = new Array(10).fill(0);
  for (const label of held.labels) counts[label]++;
  for (let c = 0; c < 10; c++) expect(Math.abs(counts[c] - (total[c] * 360) / 1797)).toBeLessThan(1);
});

test("equal seeds give equal splits, another seed another; calls share no memory", () => {
  const first = digits({ seed: 3 });
  const second = digits({ seed: 3 });
  expect(first.test.images).toEqual(second.test.images);
  expect(first.test.images).not.toEqual(digits().test.images);
  first.train.images.fill(7);
  expect(Math.max(...second.train.images)).toBe(1);
});

test("testFraction sets the size; 0 keeps everything for training", () => {
  expect(digits({ testFraction: 0 }).train.length).toBe(1797);
  expect(digits({ testFraction: 0 }).test.length).toBe(0);
  expect(digits({ testFraction: 0.5 }).test.length).toBe(899);
});

test("wrong options are refused by name", () => {
  expect(() => digits({ testFraction: 1 })).toThrow(OptionError);
  expect(() => digits({ testFraction: Number.NaN })).toThrow(/testFraction must be a number in \[0, 1\)/);
  expect(() => digits({ seed: 0.5 })).toThrow(/seed must be a whole number/);
  // @ts-expect-error a mistyped option
  expect(() => digits({ testfraction: 0.1 })).toThrow(/digits has the options.*Did you mean "testFraction"/);
});
