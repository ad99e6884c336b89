import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { Hdf5 } from "../../src/io/keras/hdf5.js";
import { openKerasWith } from "../../src/io/keras/open_keras.js";
import { type Mutation, pick, readMutated } from "./mutation.js";

const bytesOf = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`files/keras_${name}`, import.meta.url)));
const names = ["small_v3.weights.h5", "small_v2.h5", "small_latest.h5"];
const samples = names.map(bytesOf);

/** Words that say where something lies or how large it is: changed, they lead elsewhere, in circles or nowhere. */
const wordsOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

function places(bytes: Uint8Array): number[] {
  const view = wordsOf(bytes);
  const found: number[] = [];
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const word = view.getBigUint64(at, true);
    if (word > 0n && word <= BigInt(bytes.length)) found.push(at);
  }
  return found;
}

const odd = [0n, 1n, 8n, 96n, 0x7fffffffn, 0xffffffffn, 1n << 40n, (1n << 63n) - 1n, (1n << 64n) - 1n];

const structural: Mutation[] = [
  function redirect(bytes, random) {
    const known = places(bytes);
    const view = wordsOf(bytes);
    const word = random.uniform() < 0.6 ? view.getBigUint64(pick(random, known), true) : pick(random, odd);
    view.setBigUint64(pick(random, known), word, true);
    return bytes;
  },
  function superblock(bytes, random) {
    bytes[Math.floor(random.uniform() * 96)] = Math.floor(random.uniform() * 256);
    return bytes;
  },
  // Trees, heaps, symbol tables and headers of the kinds with a signature.
  function marked(bytes, random) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    const marks = [...text.matchAll(/TREE|HEAP|SNOD|GCOL|OHDR|OCHK|FRHP|FHDB|BTHD|BTLF|FADB|FAHD|EAHD/g)];
    const at = pick(random, marks).index + 4 + Math.floor(random.uniform() * 60);
    if (at < bytes.length) bytes[at] = Math.floor(random.uniform() * 256);
    return bytes;
  },
  // Object headers of the older kind have none; theirs are messages with a small type and a size that is a multiple of 8.
  function message(bytes, random) {
    const view = wordsOf(bytes);
    const found: number[] = [];
    for (let at = 0; at + 8 <= bytes.length; at += 8) {
      const size = view.getUint16(at + 2, true);
      if (view.getUint16(at, true) <= 0x16 && size > 0 && size < 512 && size % 8 === 0) found.push(at);
    }
    const at = pick(random, found) + Math.floor(random.uniform() * 40);
    if (at < bytes.length) bytes[at] = pick(random, [0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255]);
    return bytes;
  },
];

const worker = new Hdf5({ keepAfterDamage: true, patience: 400 });
afterAll(() => worker.stop());

test("10,000 changed HDF5 files are read or refused, in bounded time and memory", async () => {
  let heap = 0;
  let ended = 0;
  const read = async (bytes: Uint8Array): Promise<void> => {
    try {
      const file = await openKerasWith(worker, bytes);
      try {
        for (const name of file.tensors.keys()) await file.read(name);
      } finally {
        file.close();
      }
    } catch (error) {
      // Crashes, hangs and lack of memory.
      if ((error as Error).message.includes("HDF5 library)")) ended++;
      throw error;
    } finally {
      heap = Math.max(heap, worker.heap);
    }
  };
  const outcomes = await readMutated(samples, read, { mutations: structural });
  console.info("HDF5:", JSON.stringify({ ...outcomes, ended, heap }));
  expect(outcomes.accepted + outcomes.refused).toBe(10_000);
  // What 10,000 damaged files did to the library is not seen in a good one.
  const sound = new Hdf5();
  for (const bytes of samples) {
    const [one, other] = [await openKerasWith(worker, bytes), await openKerasWith(sound, bytes)];
    for (const name of one.tensors.keys()) expect((await one.read(name)).data).toEqual((await other.read(name)).data);
  }
  sound.stop();
}, 200_000);
