import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Random } from "../../src/base/random.js";
import { saveKerasWeights } from "../../src/io/index.js";
import { joined } from "../../src/io/joined.js";
import { Hdf5 } from "../../src/io/keras/hdf5.js";
import { openKerasWith } from "../../src/io/keras/open_keras.js";
import { zipPieces } from "../../src/io/zip/write.js";
import { type Mutation, type Outcomes, pick, readMutated } from "./mutation.js";

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

/** All tensors of each file, on two workers at once; a reading that hangs costs the patience that they have. */
async function readAll(samples: readonly Uint8Array[], mutations: readonly Mutation[]): Promise<object> {
  const workers = [1, 2].map(() => new Hdf5({ keepAfterDamage: true, patience: 200 }));
  let heap = 0;
  let ended = 0;
  const runs = workers.map((worker, i) => {
    const read = async (bytes: Uint8Array): Promise<void> => {
      try {
        const file = await openKerasWith(worker, bytes);
        try {
          for (const name of file.tensors.keys()) await file.read(name);
        } finally {
          file.close();
        }
      } catch (error) {
        // Crashes and hangs.
        if ((error as Error).message.includes("HDF5 library)")) ended++;
        throw error;
      } finally {
        heap = Math.max(heap, worker.heap);
      }
    };
    // While one reading waits the other makes garbage: the memory between its begin and its end is not its own alone. After a
    // hang it waits for a new worker, which takes seconds to start on a machine with more to do than it has cores.
    const bounds = { mutations, allowance: 32 * 2 ** 20, within: 10_000 };
    return readMutated(samples, read, { files: 5000, seed: 1 + 5000 * i, ...bounds });
  });
  try {
    const [a, b] = (await Promise.all(runs)) as [Outcomes, Outcomes];
    // What thousands of damaged files did to the library is not seen in a good one.
    const sound = new Hdf5();
    for (const worker of workers) {
      for (const bytes of samples) {
        const [one, other] = [await openKerasWith(worker, bytes), await openKerasWith(sound, bytes)];
        for (const name of one.tensors.keys())
          expect((await one.read(name)).data).toEqual((await other.read(name)).data);
      }
    }
    sound.stop();
    const [accepted, refused] = [a.accepted + b.accepted, a.refused + b.refused];
    const [slowest, most] = [Math.max(a.slowest, b.slowest), Math.max(a.most, b.most)];
    return { files: accepted + refused, accepted, refused, slowest, most, ended, heap };
  } finally {
    for (const worker of workers) worker.stop();
  }
}

test("10,000 changed HDF5 files are read or refused, in bounded time and memory", async () => {
  const outcomes = await readAll(samples, structural);
  console.info("HDF5:", JSON.stringify(outcomes));
  expect(outcomes).toMatchObject({ files: 10_000 });
}, 200_000);

test("10,000 changed .keras files are read or refused, in bounded time and memory", async () => {
  const config = {
    class_name: "Sequential",
    config: {
      name: "s",
      layers: [
        { class_name: "Dense", config: { name: "a", use_bias: true } },
        { class_name: "Sequential", config: { layers: [{ class_name: "LayerNormalization", config: { name: "b" } }] } },
      ],
    },
  };
  const parts: Record<string, Uint8Array> = {
    "metadata.json": new TextEncoder().encode('{"keras_version":"3.3.3"}'),
    "config.json": new TextEncoder().encode(JSON.stringify(config)),
    "model.weights.h5": await saveKerasWeights({ "layers/dense/vars/0": { shape: [2, 3], data: new Float32Array(6) } }),
  };
  const names = Object.keys(parts);
  const pack = (contents: Record<string, Uint8Array>, compress: boolean): Uint8Array =>
    joined(
      zipPieces(
        Object.entries(contents).map(([name, bytes]) => ({ name, bytes: () => bytes })),
        compress,
      ),
    );
  // Packed again, so that sizes and check sums are right and the parts themselves are what is wrong.
  const repacked = (change: (contents: Record<string, Uint8Array>, random: Random) => void): Mutation => {
    return (_, random) => {
      const contents = { ...parts };
      change(contents, random);
      return pack(contents, random.uniform() < 0.5);
    };
  };
  const mutations = [
    repacked((contents, random) => {
      const bytes = contents["model.weights.h5"]!.slice();
      contents["model.weights.h5"] = pick(random, structural.slice(0, 2))(bytes, random);
    }),
    repacked((contents, random) => {
      const name = pick(random, names.slice(0, 2));
      const bytes = contents[name]!.slice();
      bytes[Math.floor(random.uniform() * bytes.length)] = pick(random, [...Buffer.from('{}[]",:x0-')]);
      contents[name] = bytes;
    }),
    repacked((contents, random) => {
      const text = new TextDecoder().decode(contents["config.json"]);
      const odd = pick(random, ["null", "[]", "{}", "7", '"x"', '{"config":{"layers":[null,1,{"class_name":3}]}}']);
      const at = pick(random, [...text.matchAll(/[:,[]/g)]).index + 1;
      contents["config.json"] = new TextEncoder().encode(`${text.slice(0, at)}${odd},${text.slice(at)}`);
    }),
    repacked((contents, random) => {
      const name = pick(random, names);
      contents[pick(random, ["other", "../config.json", "model.weights.npz"])] = contents[name]!;
      delete contents[name];
    }),
  ];
  const outcomes = await readAll([pack(parts, false), pack(parts, true)], mutations);
  console.info(".keras:", JSON.stringify(outcomes));
  expect(outcomes).toMatchObject({ files: 10_000 });
}, 200_000);
