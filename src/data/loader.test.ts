import { afterEach, expect, test, vi } from "vitest";
import { FormatError, OptionError, StateError } from "../base/errors.js";
import { manualSeed } from "../base/random.js";
import { heap } from "../memory/heap.js";
import { Dataset } from "./dataset.js";
import { digits } from "./digits.js";
import { type Batch, DataLoader, type DataLoaderState } from "./loader.js";

afterEach(() => vi.restoreAllMocks());

/** Sample i is [i, i + 0.25, i + 0.5] with the label 100 + i. */
const numbered = (n: number) =>
  new Dataset({
    images: Float32Array.from({ length: n * 3 }, (_, i) => Math.floor(i / 3) + (i % 3) / 4),
    labels: Int32Array.from({ length: n }, (_, i) => 100 + i),
    sampleShape: [3, 1],
  });

function read(batch: Batch): number[] {
  const x = [...batch.x.dataSync()];
  const numbers = [...batch.y.dataSync()].map((label) => label - 100);
  expect(batch.x.shape).toEqual([batch.size, 3, 1]);
  expect(batch.y.shape).toEqual([batch.size]);
  expect([batch.x.dtype, batch.y.dtype]).toEqual(["float32", "int32"]);
  expect(x).toEqual(numbers.flatMap((i) => [i, i + 0.25, i + 0.5]));
  batch.dispose();
  return numbers;
}

const epoch = (loader: DataLoader): number[][] => Array.from(loader, read);
const sorted = (batches: number[][]) => batches.flat().sort((a, b) => a - b);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

test("without shuffle: the dataset's own order, the rest in a last batch", () => {
  const loader = new DataLoader(numbered(8), { batchSize: 3 });
  expect([loader.length, loader.lastBatchSize]).toEqual([3, 2]);
  for (let pass = 0; pass < 2; pass++) {
    expect(epoch(loader)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
      [6, 7],
    ]);
  }
});

test("batches count from 0, and dropLast leaves the rest out", () => {
  const loader = new DataLoader(numbered(8), { batchSize: 3, dropLast: true });
  expect([loader.length, loader.lastBatchSize]).toEqual([2, 3]);
  const batches = [...loader];
  expect(batches.map(({ index, size }) => [index, size])).toEqual([
    [0, 3],
    [1, 3],
  ]);
  expect(batches.flatMap(read)).toEqual(upTo(6));
});

test("a batch larger than the dataset is one smaller batch, or none with dropLast; an empty dataset has none", () => {
  expect(epoch(new DataLoader(numbered(4), { batchSize: 9 }))).toEqual([[0, 1, 2, 3]]);
  const none = new DataLoader(numbered(4), { batchSize: 9, dropLast: true });
  expect([none.length, none.lastBatchSize, epoch(none).length]).toEqual([0, 0, 0]);
  const empty = new DataLoader(numbered(4).subset([]), { batchSize: 2, shuffle: true });
  expect([empty.length, empty.lastBatchSize, epoch(empty).length]).toEqual([0, 0, 0]);
});

test("shuffle: every sample once, another order each epoch, equal seeds equal orders", () => {
  const make = (seed: number) => new DataLoader(numbered(50), { batchSize: 8, shuffle: true, seed });
  const loader = make(1);
  const first = epoch(loader);
  const second = epoch(loader);
  expect(sorted(first)).toEqual(upTo(50));
  expect(sorted(second)).toEqual(upTo(50));
  expect(first.flat()).not.toEqual(upTo(50));
  expect(second).not.toEqual(first);
  const twin = make(1);
  expect([epoch(twin), epoch(twin)]).toEqual([first, second]);
  expect(epoch(make(2))).not.toEqual(first);
});

test("without a seed the order follows manualSeed", () => {
  const orderAfter = (seed: number) => {
    manualSeed(seed);
    return epoch(new DataLoader(numbered(20), { batchSize: 5, shuffle: true }));
  };
  expect(orderAfter(4)).toEqual(orderAfter(4));
  expect(orderAfter(4)).not.toEqual(orderAfter(5));
});

test("a state read with any batch in hand, through JSON, continues with the next batch and all later epochs", () => {
  const make = (seed: number) => new DataLoader(numbered(18), { batchSize: 4, shuffle: true, seed });
  const states: string[] = [];
  const batches: number[][] = [];
  const loader = make(8);
  states.push(JSON.stringify(loader.state));
  for (let e = 0; e < 3; e++) {
    for (const batch of loader) {
      batches.push(read(batch));
      states.push(JSON.stringify(loader.state));
    }
  }
  expect(batches.length).toBe(15);
  states.forEach((text, done) => {
    const resumed = make(999);
    resumed.state = JSON.parse(text) as DataLoaderState;
    const rest: number[][] = [];
    while (rest.length < 15 - done) rest.push(...epoch(resumed));
    expect(rest).toEqual(batches.slice(done));
  });
});

test("the state counts batches handed out and epochs behind it", () => {
  const loader = new DataLoader(numbered(5), { batchSize: 2, dropLast: true });
  const seen: number[][] = [];
  for (const batch of loader) {
    seen.push([loader.state.epoch, loader.state.position]);
    batch.dispose();
  }
  expect(seen).toEqual([
    [0, 1],
    [0, 2],
  ]);
  expect([loader.state.epoch, loader.state.position]).toEqual([1, 0]);
});

test("a loop left early counts as an epoch: the next loop starts another, from its beginning", () => {
  const make = () => new DataLoader(numbered(12), { batchSize: 4, shuffle: true, seed: 6 });
  const whole = make();
  const epochs = [epoch(whole), epoch(whole)];
  const left = make();
  for (const batch of left) {
    expect(read(batch)).toEqual(epochs[0]![0]);
    break;
  }
  expect(left.state.position).toBe(1);
  expect(epoch(left)).toEqual(epochs[1]);
  expect(left.state.epoch).toBe(2);
});

test("a second loop inside the first one does not disturb it", () => {
  const make = () => new DataLoader(numbered(12), { batchSize: 4, shuffle: true, seed: 6 });
  const outer = make();
  const batches: number[][] = [];
  for (const batch of outer) {
    batches.push(read(batch));
    expect(sorted(epoch(outer))).toEqual(upTo(12));
  }
  expect(batches).toEqual(epoch(make()));
});

test("a state that does not fit is refused, and the loader stays as it was", () => {
  const make = (n: number, batchSize: number, shuffle = true) =>
    new DataLoader(numbered(n), { batchSize, shuffle, ...(shuffle ? { seed: 1 } : {}) });
  const source = make(12, 4);
  for (const batch of source) {
    batch.dispose();
    break;
  }
  const state = source.state;
  const target = make(12, 4);
  const before = target.state;
  const refuse = (loader: DataLoader, value: unknown, text: RegExp) => {
    const set = () => {
      loader.state = value as DataLoaderState;
    };
    expect(set).toThrow(FormatError);
    expect(set).toThrow(text);
  };
  refuse(make(11, 4), state, /12 samples in batches of 4/);
  refuse(make(12, 5), state, /in batches of 5/);
  refuse(make(12, 4, false), state, /shuffle: false/);
  refuse(target, { ...state, random: null }, /shuffle: true/);
  refuse(target, { ...state, position: 4 }, /position 4/);
  refuse(target, { ...state, position: -1 }, /whole numbers/);
  refuse(target, { ...state, epoch: 0.5 }, /whole numbers/);
  refuse(target, { ...state, random: { words: [1, 2], spare: null } }, /four 32-bit words/);
  for (const none of [null, undefined, 3, "x", {}]) refuse(target, none, /whole numbers/);
  expect(target.state).toEqual(before);
  const between = { ...state, position: 0 };
  make(13, 5).state = between; // between epochs another batch size is no contradiction
});

test("using gives every byte of a batch back", () => {
  const loader = new DataLoader(numbered(10), { batchSize: 4, shuffle: true });
  const before = heap.stats.liveBytes;
  const kept: Batch[] = [];
  for (using batch of loader) {
    expect(heap.stats.liveBytes).toBeGreaterThan(before);
    kept.push(batch);
  }
  expect(heap.stats.liveBytes).toBe(before);
  for (const batch of kept) expect(() => batch.x.dataSync()).toThrow(StateError);
});

test("a last batch of one sample is reported once, and only where it happens", () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  expect(new DataLoader(numbered(31), { batchSize: 6 }).lastBatchSize).toBe(1);
  expect(warn).toHaveBeenCalledTimes(1);
  expect(warn.mock.calls[0]![0]).toMatch(/31 samples in batches of 6.*batch norm.*dropLast: true/);
  new DataLoader(numbered(31), { batchSize: 6, shuffle: true });
  new DataLoader(numbered(31), { batchSize: 6, dropLast: true });
  new DataLoader(numbered(31), { batchSize: 7 });
  expect(new DataLoader(numbered(31)).lastBatchSize).toBe(1);
  expect(warn).toHaveBeenCalledTimes(1);
});

test("wrong arguments are refused by name", () => {
  const data = numbered(4);
  for (const batchSize of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "2" as unknown as number]) {
    expect(() => new DataLoader(data, { batchSize })).toThrow(/batchSize must be a whole number of at least 1/);
  }
  expect(() => new DataLoader(data, { seed: Number.NaN })).toThrow(OptionError);
  expect(() => new DataLoader(data, { shuffle: 1 as unknown as boolean })).toThrow(/shuffle must be true or false/);
  // @ts-expect-error PyTorch's name
  expect(() => new DataLoader(data, { drop_last: true })).toThrow(/Did you mean "dropLast"/);
  // @ts-expect-error both parts instead of one
  expect(() => new DataLoader(digits())).toThrow(/digits\(\)\.train/);
  // @ts-expect-error no dataset
  expect(() => new DataLoader(null)).toThrow(OptionError);
});

test("digits come out as [B, 1, 8, 8] and [B]", () => {
  const loader = new DataLoader(digits().train, { batchSize: 32, shuffle: true, seed: 0 });
  expect(loader.length).toBe(45);
  for (using batch of loader) {
    expect(batch.x.shape).toEqual([batch.size, 1, 8, 8]);
    expect(batch.y.shape).toEqual([batch.size]);
  }
});
