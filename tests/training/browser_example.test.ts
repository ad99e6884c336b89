import { describe, expect, test } from "vitest";
import { Curve } from "../../examples/browser/curve.js";
import { normalizationChoices } from "../../examples/browser/normalization_choices.js";
import { imageOf, type Stroke } from "../../examples/browser/preprocess.js";
import { sampleDigits } from "../../examples/browser/sample_digits.js";
import { defaults } from "../../examples/browser/settings.js";
import { SpeedMeter } from "../../examples/browser/speed_meter.js";
import { Training } from "../../examples/browser/training.js";
import { digits } from "../../src/data/index.js";

const moved = (strokes: readonly Stroke[], scale: number, dx: number, dy: number): Stroke[] =>
  strokes.map((stroke) => stroke.map(({ x, y }) => ({ x: x * scale + dx, y: y * scale + dy })));
const ink = (image: ArrayLike<number>): number => Array.from(image).reduce((a, b) => a + b, 0) / image.length;

describe("examples/browser: what is drawn becomes an image like the data's", () => {
  test("nothing is no image", () => {
    expect(imageOf([])).toBeNull();
    expect(imageOf([[]])).toBeNull();
  });

  test("wherever and however large it was drawn", () => {
    for (const strokes of sampleDigits) {
      const image = imageOf(strokes)!;
      // The pen's path may cross a pixel's middle or not by a rounding: a pixel is 1/16 of a block.
      const other = imageOf(moved(strokes, 0.31, 0.6, 0.1))!;
      for (const [i, v] of image.entries()) expect(Math.abs(v - other[i]!)).toBeLessThanOrEqual(2 / 16);
    }
  });

  test("with as much ink, as wide and as high as the digits of the data", () => {
    const { train } = digits();
    const usual = ink(train.images);
    for (const [digit, strokes] of sampleDigits.entries()) {
      const image = imageOf(strokes)!;
      expect(image.every((v) => v >= 0 && v <= 1)).toBe(true);
      // A 1 is a line, which no pen makes as full as a loop.
      if (digit !== 1) expect(Math.abs(ink(image) - usual)).toBeLessThan(0.03);
      for (const row of [0, 7]) expect(ink(image.subarray(8 * row, 8 * row + 8))).toBeGreaterThan(0.05);
      const sides = [0, 7].map((column) => ink(Array.from({ length: 8 }, (_, row) => image[8 * row + column]!)));
      expect(sides).toEqual([0, 0]);
    }
  });

  test("a dot and a flat line stay what they are", () => {
    const dot = imageOf([[{ x: 3, y: 4 }]])!;
    expect(dot.every(Number.isFinite)).toBe(true);
    expect(ink(dot)).toBeGreaterThan(0);
    const flat = imageOf([
      [
        { x: 0, y: 0.5 },
        { x: 1, y: 0.5 },
      ],
    ])!;
    expect(ink(flat.subarray(0, 16))).toBe(0);
    expect(ink(flat.subarray(24, 40))).toBeGreaterThan(0.3);
  });
});

describe("examples/browser: training", () => {
  test.each(normalizationChoices.map(({ id }) => id))(
    "normalization %s reads at least nine of the ten samples after 250 steps",
    async (id) => {
      const training = new Training({ ...defaults, normalization: id });
      for (let i = 0; i < 250; i++) await training.takeStep(false);
      const read = await Promise.all(
        sampleDigits.map(async (strokes) => {
          const p = await training.classify(imageOf(strokes)!);
          expect(p.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
          return p.indexOf(Math.max(...p));
        }),
      );
      expect(read.filter((digit, i) => digit === i).length).toBeGreaterThanOrEqual(9);
      expect((await training.evaluate()).accuracy).toBeGreaterThan(0.93);
      training.dispose();
    },
  );

  test("a watched step tells of every layer, and is the same step", async () => {
    const [watched, plain] = [new Training(defaults), new Training(defaults)];
    const a = await watched.takeStep(true);
    const b = await plain.takeStep(false);
    expect(a.loss).toBe(b.loss);
    expect(b.layers).toBeNull();
    expect(a.layers!.map((l) => l.name)).toEqual(["conv 1", "conv 2", "conv 3", "linear"]);
    expect(a.layers!.map((l) => l.active === null)).toEqual([false, false, false, true]);
    for (const { std, gradient, relativeGradient, active } of a.layers!) {
      expect(std).toBeGreaterThan(0.01);
      expect(gradient).toBeGreaterThan(0);
      expect(relativeGradient).toBeGreaterThan(0);
      // Normalized numbers are positive about as often as not.
      if (active !== null) expect(Math.abs(active - 0.5)).toBeLessThan(0.15);
    }
    expect((await watched.takeStep(false)).loss).toBe((await plain.takeStep(false)).loss);
  });

  test("another batch size or learning rate goes on with the same weights", async () => {
    const training = new Training(defaults);
    for (let i = 0; i < 60; i++) await training.takeStep(false);
    const { loss } = await training.evaluate();
    training.batchSize = 8;
    training.learningRate = 1e-4;
    for (let i = 0; i < 3; i++) await training.takeStep(false);
    expect(training.step).toBe(63);
    expect(Math.abs((await training.evaluate()).loss - loss)).toBeLessThan(0.05);
  });
});

test("examples/browser: a curve keeps its mean and its ends while it is thinned", () => {
  const curve = new Curve();
  const values = Array.from({ length: 5000 }, (_, i) => Math.sin(i / 100) + i / 1000);
  for (const [i, v] of values.entries()) curve.add(i + 1, v);
  expect(curve.x.length).toBeLessThanOrEqual(800);
  expect(curve.x.at(-1)).toBeGreaterThan(4980);
  const seen = values.slice(0, curve.x.at(-1));
  const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
  expect(mean(curve.y)).toBeCloseTo(mean(seen), 9);
  curve.clear();
  expect(curve.last).toBeNull();
});

test("examples/browser: the speed of the last second", () => {
  const meter = new SpeedMeter();
  expect(meter.rate).toBeNull();
  for (let i = 0; i < 100; i++) meter.add(10 * i);
  expect(meter.rate).toBeCloseTo(100, 6);
  for (let i = 0; i < 40; i++) meter.add(1000 + 50 * i);
  expect(meter.rate).toBeCloseTo(20, 1);
  // Slower than a step a second is measured over the last few.
  for (let i = 1; i <= 5; i++) meter.add(3000 + 2000 * i);
  expect(meter.rate).toBeCloseTo(0.5, 6);
});
