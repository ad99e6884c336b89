import fc from "fast-check";
import { expect, test } from "vitest";
import { DTypeError, OptionError, ShapeError } from "../base/errors.js";
import { Random } from "../base/random.js";
import { Dataset } from "./dataset.js";
import { channelStatistics, normalize } from "./normalize.js";
import { stratifiedSplit } from "./split.js";

const numbered = (n: number, labels = Int32Array.from({ length: n }, (_, i) => i)) =>
  new Dataset({ images: Float32Array.from({ length: n * 6 }, (_, i) => i), labels, sampleShape: [2, 3] });

test("subset copies the named samples in the named order", () => {
  const data = numbered(5);
  const part = data.subset([4, 0, 4]);
  expect(part.length).toBe(3);
  expect([...part.images]).toEqual([24, 25, 26, 27, 28, 29, 0, 1, 2, 3, 4, 5, 24, 25, 26, 27, 28, 29]);
  expect([...part.labels]).toEqual([4, 0, 4]);
  part.images.fill(-1);
  expect(data.images[0]).toBe(0);
  for (const wrong of [5, -1, 0.5, Number.NaN]) expect(() => data.subset([0, wrong])).toThrow(ShapeError);
});

test("labels may have a shape and a float type", () => {
  const labels = Float64Array.from({ length: 8 }, (_, i) => i / 3);
  const data = new Dataset({ images: new Int32Array(12), labels, sampleShape: [3], labelShape: [2] });
  expect(data.length).toBe(4);
  expect(data.subset([3, 1]).labels).toEqual(Float64Array.of(6 / 3, 7 / 3, 2 / 3, 3 / 3));
});

test("arrays that do not fit are refused", () => {
  const images = new Float32Array(12);
  const make = (parts: object) => () => new Dataset(parts as ConstructorParameters<typeof Dataset>[0]);
  expect(make({ images, labels: new Int32Array(2), sampleShape: [5] })).toThrow(/12 and 2 numbers/);
  expect(make({ images, labels: new Int32Array(3), sampleShape: [6] })).toThrow(ShapeError);
  expect(make({ images, labels: new Int32Array(0), sampleShape: [0] })).toThrow(ShapeError);
  expect(make({ images: [1, 2], labels: new Int32Array(2), sampleShape: [1] })).toThrow(DTypeError);
  expect(make({ images, labels: new Uint8Array(2), sampleShape: [6] })).toThrow(/Uint8Array/);
  expect(make({ images, labels: new Int32Array(2), sampleshape: [6] })).toThrow(/Did you mean "sampleShape"/);
});

test("a stratified split parts any labels: nothing lost, sizes exact, each class within one of its share", () => {
  const labelLists = fc.array(fc.integer({ min: -2, max: 3 }), { minLength: 1, maxLength: 60 });
  const tenths = fc.integer({ min: 0, max: 9 });
  fc.assert(
    fc.property(labelLists, tenths, fc.integer(), (labels, tenth, seed) => {
      const data = numbered(labels.length, Int32Array.from(labels));
      const { train, test: held } = stratifiedSplit(data, { testFraction: tenth / 10, seed });
      expect(held.length).toBe(Math.ceil((tenth * labels.length) / 10));
      const firsts = [train, held].flatMap((part) =>
        Array.from({ length: part.length }, (_, i) => part.images[i * 6]!),
      );
      expect(firsts.sort((a, b) => a - b)).toEqual(labels.map((_, i) => i * 6));
      for (const c of new Set(labels)) {
        const of = (list: Iterable<number>) => [...list].filter((label) => label === c).length;
        expect(Math.abs(of(held.labels) - (of(labels) * held.length) / labels.length)).toBeLessThan(1);
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("statistics are those of each channel, and normalizing with them gives mean 0 and deviation 1", () => {
  const random = new Random(5);
  const images = Float32Array.from({ length: 7 * 2 * 3 }, (_, i) => random.normal() * (i % 6 < 3 ? 1 : 100) + 1000);
  const data = new Dataset({ images, labels: new Int32Array(7), sampleShape: [2, 3] });
  const { mean, std } = channelStatistics(data);
  for (const c of [0, 1]) {
    const values = [...images].filter((_, i) => Math.floor(i / 3) % 2 === c);
    const m = values.reduce((sum, v) => sum + v, 0) / 21;
    expect(mean[c]).toBeCloseTo(m, 9);
    expect(std[c]).toBeCloseTo(Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / 21), 9);
  }
  const again = channelStatistics(normalize(data, { mean, std }));
  for (const c of [0, 1]) {
    // float32 holds (v - mean) / std to 6e-8, and the mean of 21 of them no worse.
    expect(Math.abs(again.mean[c]!)).toBeLessThan(1e-7);
    expect(Math.abs(again.std[c]! - 1)).toBeLessThan(1e-7);
  }
  expect(normalize(data, { mean: 1000, std: 2 }).images[4]).toBe(Math.fround((images[4]! - 1000) / 2));
  expect(data.images).toBe(images);
});

test("normalize and channelStatistics refuse what has no meaning", () => {
  const data = numbered(2);
  expect(() => normalize(data, { mean: [0, 0, 0], std: 1 })).toThrow(/list of 2/);
  expect(() => normalize(data, { mean: 0, std: [1, 0] })).toThrow(OptionError);
  expect(() => normalize(data, { mean: Number.NaN, std: 1 })).toThrow(/mean must be/);
  expect(() => normalize(data, {} as { mean: number; std: number })).toThrow(/nothing/);
  expect(() => channelStatistics(data.subset([]))).toThrow(ShapeError);
});
