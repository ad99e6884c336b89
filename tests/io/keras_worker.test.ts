import { readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { FormatError } from "../../src/index.js";
import { Hdf5 } from "../../src/io/keras/hdf5.js";
import { openKerasWith } from "../../src/io/keras/open_keras.js";

const bytesOf = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`files/keras_${name}`, import.meta.url)));

/** A file with another byte at a place, where it has to have a certain one. */
function changed(name: string, at: number, from: number, to: number): Uint8Array {
  const bytes = bytesOf(name);
  expect(bytes[at]).toBe(from);
  bytes[at] = to;
  return bytes;
}

/** Found by changing files at random: HDF5 follows a list in a circle for ever, and reads outside of its memory. */
const hangs = changed("small_v2.h5", 2152, 2, 0);
const crashes = changed("small_v3.weights.h5", 18848, 12, 1);

let worker = new Hdf5();
afterEach(() => worker.stop());

test("a file that makes HDF5 hang is refused when the time is over, and others are read before and after", async () => {
  worker = new Hdf5({ patience: 1000 });
  const good = await openKerasWith(worker, bytesOf("v1_weights.h5"));
  const expected = (await good.read("convolution2d_1_W")).data;
  const bad = openKerasWith(worker, hangs);
  // Asked for while the worker hangs: it waits for its turn, and for the next worker.
  const later = good.read("convolution2d_1_W");
  const error = await bad.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(FormatError);
  expect(String(error)).toMatch(/no answer within 10\d\d ms/);
  expect((await later).data).toEqual(expected);
  good.close();
});

test("a file that makes HDF5 crash is refused, and the worker is not used again", async () => {
  const good = await openKerasWith(worker, bytesOf("v1_weights.h5"));
  const expected = (await good.read("convolution2d_1_W")).data;
  const refused = openKerasWith(worker, crashes).then(async (file) => {
    for (const name of file.tensors.keys()) await file.read(name);
  });
  await expect(refused).rejects.toThrow(/memory access out of bounds/);
  await expect(refused).rejects.toThrow(FormatError);
  expect((await good.read("convolution2d_1_W")).data).toEqual(expected);
  good.close();
});

test("many files are open at once and read in any order", async () => {
  const names = ["v1_weights.h5", "small_v3.weights.h5", "small_v2.h5"];
  const files = await Promise.all(names.map((name) => openKerasWith(worker, bytesOf(name))));
  const reads = files.flatMap((file) =>
    [...file.tensors].map(([name, { shape }]) => ({ shape, read: file.read(name) })),
  );
  for (const { shape, read } of reads.reverse()) expect((await read).shape).toEqual(shape);
  for (const file of files) file.close();
});

test("memory is bounded by the tensor that is read, and a compressed one by what the caller takes", async () => {
  const zeros = bytesOf("zeros.h5");
  expect(zeros.length).toBeLessThan(20_000);
  await expect(openKerasWith(worker, zeros, { largestTensor: 2 ** 22 })).rejects.toThrow(/room for/);
  const file = await openKerasWith(worker, zeros);
  const before = worker.heap;
  const { shape, data } = await file.read("zeros");
  expect([shape, data.length, data.some((v) => v !== 0)]).toEqual([[2048, 1024], 2 ** 21, false]);
  expect(worker.heap - before).toBeLessThanOrEqual(16 * 2 ** 20 + 4 * data.byteLength);
  file.close();
});
