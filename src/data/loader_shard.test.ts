import { afterEach, expect, test, vi } from "vitest";
import { OptionError } from "../base/errors.js";
import { Dataset } from "./dataset.js";
import { DataLoader, type DataLoaderOptions, type DataLoaderState } from "./loader.js";

afterEach(() => vi.restoreAllMocks());

/** Sample i is [i, -i] with the label i. */
const numbered = (n: number) =>
  new Dataset({
    images: Float64Array.from({ length: n * 2 }, (_, i) => (i % 2 ? -1 : 1) * Math.floor(i / 2)),
    labels: Int32Array.from({ length: n }, (_, i) => i),
    sampleShape: [2],
  });

interface Part {
  readonly samples: number[];
  readonly globalSize: number;
}

/** The rest of an epoch as one rank sees it. */
const partsOf = (loader: DataLoader): Part[] =>
  Array.from(loader, (batch) => {
    const samples = [...batch.y.dataSync()];
    expect([batch.size, batch.x.shape, batch.y.shape]).toEqual([samples.length, [batch.size, 2], [batch.size]]);
    expect([...batch.x.dataSync()].map(Math.abs)).toEqual(samples.flatMap((i) => [i, i]));
    batch.dispose();
    return { samples, globalSize: batch.globalSize };
  });

const loaders = (data: Dataset, size: number, options: DataLoaderOptions): DataLoader[] =>
  Array.from({ length: size }, (_, rank) => new DataLoader(data, { ...options, shard: { rank, size } }));

/** The batches that the ranks go through together. */
const joined = (ranks: readonly DataLoader[]): number[][] => {
  const parts = ranks.map(partsOf);
  return parts[0]!.map((_, k) => parts.flatMap((p) => p[k]!.samples));
};

test("all ranks together hand out what one would, in its order, in parts that differ by one sample at most", () => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  for (const n of [0, 1, 2, 5, 16, 33, 47]) {
    for (const batchSize of [1, 2, 3, 7, 16, 50]) {
      for (const size of [1, 2, 3, 4, 8]) {
        for (const dropLast of [false, true]) {
          const options = { batchSize, shuffle: true, seed: n + 1, dropLast };
          const data = numbered(n);
          const one = new DataLoader(data, options);
          const ranks = loaders(data, size, options);
          for (let epoch = 0; epoch < 2; epoch++) {
            const expected = partsOf(one).map((p) => p.samples);
            const parts = ranks.map(partsOf);
            for (const rank of parts) expect(rank.length).toBe(expected.length);
            expected.forEach((samples, k) => {
              expect(parts.flatMap((p) => p[k]!.samples)).toEqual(samples);
              expect(parts.map((p) => p[k]!.globalSize)).toEqual(parts.map(() => samples.length));
              const sizes = parts.map((p) => p[k]!.samples.length);
              expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
              const starts = parts.map((_, r) => Math.floor((r * samples.length) / size));
              expect(parts.map((p) => p[k]!.samples[0] ?? null)).toEqual(
                starts.map((at, r) => (sizes[r]! > 0 ? samples[at]! : null)),
              );
            });
          }
          for (const rank of ranks) {
            expect([rank.length, rank.lastBatchSize]).toEqual([one.length, one.lastBatchSize]);
            expect(rank.state).toEqual(one.state);
          }
        }
      }
    }
  }
});

test("a state of some ranks goes on with another number of them, with the same batches", () => {
  const data = numbered(29);
  const options = { batchSize: 6, shuffle: true, seed: 4 };
  const one = new DataLoader(data, options);
  const expected = [partsOf(one), partsOf(one)].flat().map((p) => p.samples);
  for (const [before, after] of [
    [1, 4],
    [3, 2],
    [4, 1],
    [2, 3],
  ] as const) {
    for (const done of [0, 2, 5, 7]) {
      const ranks = loaders(data, before, options);
      const states = ranks.map((loader) => {
        let left = done;
        while (left > 0)
          for (const batch of loader) {
            batch.dispose();
            if (--left === 0) break;
          }
        return JSON.stringify(loader.state);
      });
      expect(new Set(states).size).toBe(1);
      const resumed = loaders(data, after, { ...options, seed: 99 });
      for (const loader of resumed) loader.state = JSON.parse(states[0]!) as DataLoaderState;
      const rest = joined(resumed);
      if (done < 5) rest.push(...joined(resumed));
      // After the last batch of an epoch, the next loop ends that epoch and hands out nothing.
      if (done === 5) rest.push(...joined(resumed));
      expect(rest).toEqual(expected.slice(done));
    }
  }
});

test("shuffling for several ranks needs a seed", () => {
  const make = (size: number) => new DataLoader(numbered(4), { shuffle: true, shard: { rank: 0, size } });
  expect(() => make(2)).toThrow(OptionError);
  expect(() => make(2)).toThrow(/needs a seed.*same number as seed on every rank/s);
  expect(make(1).shard).toEqual({ rank: 0, size: 1 });
});

test("an end from which batch norm cannot train on some rank is reported once, by rank 0", () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const data = numbered(19);
  loaders(data, 2, { batchSize: 8 }); // 3 samples: 1 and 2
  loaders(data, 2, { batchSize: 8 });
  expect(warn).toHaveBeenCalledTimes(1);
  expect(warn.mock.calls[0]![0]).toMatch(/last batch of 3 samples for 2 ranks.*unless it is synchronized.*dropLast/);
  loaders(data, 2, { batchSize: 5 }); // 4 samples: two each
  loaders(data, 4, { batchSize: 7, dropLast: true });
  loaders(data, 4, { batchSize: 7 }); // 7 for 4 ranks leave one of them a single sample anyway
  expect(warn).toHaveBeenCalledTimes(1);
  loaders(data, 4, { batchSize: 6 }); // the last batch has one sample, too few with statistics of all ranks too
  expect(warn).toHaveBeenCalledTimes(2);
  expect(warn.mock.calls[1]![0]).toMatch(/last batch of one sample/);
});

test("a shard is a rank among a number of them", () => {
  const make = (shard: unknown) => () =>
    new DataLoader(numbered(4), { shard: shard as { rank: number; size: number } });
  for (const shard of [{ rank: 2, size: 2 }, { rank: -1, size: 2 }, { rank: 0.5, size: 2 }, { size: 2 }]) {
    expect(make(shard)).toThrow(/shard: rank must be a whole number from 0 to 1/);
  }
  expect(make({ rank: 0 })).toThrow(/shard: size must be/);
  for (const shard of [3, null, "0/2"]) expect(make(shard)).toThrow(/Pass a Communicator/);
});
