import { readFileSync } from "node:fs";
import { type Unzipped, unzipSync, zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import type { Random } from "../../src/base/random.js";
import { scope, tensor } from "../../src/index.js";
import { loadNpy, loadNpz, loadSafetensors, loadTorch, saveNpy, saveSafetensors } from "../../src/io/index.js";
import { changeNumber, type Mutation, type MutationOptions, pick, readMutated } from "./mutation.js";

const recorded = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`files/${name}`, import.meta.url)));
const utf8 = new TextEncoder();
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const fromLatin1 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

async function check(
  format: string,
  samples: readonly Uint8Array[],
  load: (bytes: Uint8Array) => unknown,
  options: MutationOptions,
): Promise<void> {
  // Numbers are read into tensors that are given back at once: the heap for tensors is not what a file can fill here.
  const outcomes = await readMutated(samples, (bytes) => void scope(() => void load(bytes)), options);
  const { files, accepted, refused, slowest, most } = outcomes;
  console.info(
    `${format}: ${files} files, ${accepted} accepted, ${refused} refused, slowest ${slowest.toFixed(1)} ms, most ${(most / 2 ** 20).toFixed(1)} MiB`,
  );
  expect(accepted + refused).toBe(files);
  // Both happen, or else nothing was tested.
  expect(accepted).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(1000);
}

/** The text of a safetensors header changed, and its length with it. */
function inHeader(change: (text: string, random: Random) => string): Mutation {
  return (bytes, random) => {
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const text = utf8.encode(change(new TextDecoder().decode(bytes.subarray(8, 8 + length)), random));
    const changed = new Uint8Array(8 + text.length + bytes.length - 8 - length);
    new DataView(changed.buffer).setBigUint64(0, BigInt(text.length), true);
    changed.set(text, 8);
    changed.set(bytes.subarray(8 + length), 8 + text.length);
    return changed;
  };
}

/** One file inside a zip file changed, and packed again with the right check sum. */
function inEntry(only: RegExp, change: Mutation): Mutation {
  return (bytes, random) => {
    const files: Unzipped = unzipSync(bytes);
    const names = Object.keys(files).filter((name) => only.test(name));
    const name = pick(random, names);
    files[name] = new Uint8Array(change(files[name]!, random));
    return zipSync(files, { level: only.source.includes("npy") && random.uniform() < 0.5 ? 6 : 0 });
  };
}

/** Any of a few words exchanged for another. */
const exchange =
  (words: readonly string[]) =>
  (text: string, random: Random): string => {
    const there = words.filter((word) => text.includes(word));
    return there.length === 0 ? text : text.replace(pick(random, there), pick(random, words));
  };

const anyByte: Mutation = (bytes, random) => {
  if (bytes.length > 0) bytes[Math.floor(random.uniform() * bytes.length)] = Math.floor(random.uniform() * 256);
  return bytes;
};

/** An .npy header changed; its length with it, mostly. */
const npyHeader =
  (change: (text: string, random: Random) => string): Mutation =>
  (bytes, random) => {
    const length = bytes[8]! + 256 * bytes[9]!;
    const text = fromLatin1(change(latin1(bytes.subarray(10, 10 + length)), random));
    const changed = new Uint8Array(10 + text.length + Math.max(0, bytes.length - 10 - length));
    changed.set(bytes.subarray(0, 10));
    if (random.uniform() < 0.8) changed.set([text.length & 255, (text.length >> 8) & 255], 8);
    changed.set(text, 10);
    changed.set(bytes.subarray(10 + length), 10 + text.length);
    return changed;
  };

/** A field of zip's records (the local header, the directory, its end) with another number in it. */
const inRecord: Mutation = (bytes, random) => {
  const places: number[] = [];
  for (let i = 0; i + 4 < bytes.length; i++)
    if (bytes[i] === 0x50 && bytes[i + 1] === 0x4b && bytes[i + 2]! < 8) places.push(i);
  const at = pick(random, places) + 4 + 2 * Math.floor(random.uniform() * 20);
  const value = pick(random, [0, 1, 8, 99, 0xffff, 0x7fffffff, 0xffffffff]);
  for (let i = 0; i < pick(random, [2, 4]) && at + i < bytes.length; i++) bytes[at + i] = (value >>> (8 * i)) & 255;
  return bytes;
};

const npyChanges: Mutation[] = [
  npyHeader(changeNumber),
  npyHeader(
    exchange([
      "<f4",
      ">f8",
      "|b1",
      "<i8",
      "|O",
      "<c8",
      "True",
      "False",
      "'shape'",
      "'descr'",
      "(",
      ")",
      ", ",
      "{",
      "[",
    ]),
  ),
];

describe("changed files", () => {
  it("safetensors", async () => {
    const samples = scope(() => [
      saveSafetensors({
        a: tensor(new Float32Array(300).fill(1)),
        b: tensor([4], { dtype: "int32" }),
        e: tensor(new Float32Array(0)),
      }),
      saveSafetensors(
        { w: tensor(new Float32Array(200)), h: tensor(new Float32Array(99)), n: tensor([7], { dtype: "int32" }) },
        undefined,
        {
          metadata: { format: "pt" },
          dtypes: { h: "bfloat16", n: "int64" },
        },
      ),
    ]);
    const words = [
      "F32",
      "F64",
      "I64",
      "BOOL",
      "F8_E5M2",
      '"a"',
      '"b"',
      '"w"',
      "__metadata__",
      "shape",
      "data_offsets",
      "[",
      "]",
      "{",
      "}",
      ":",
    ];
    const mutations = [
      inHeader(changeNumber),
      inHeader(exchange(words)),
      inHeader((t, r) => changeNumber(exchange(words)(t, r), r)),
    ];
    await check("safetensors", samples, loadSafetensors, { mutations });
  });

  it("npy", async () => {
    const samples = scope(() => [
      saveNpy(
        tensor([
          [1, 2, 3],
          [4, 5, 6],
        ]),
      ),
      saveNpy(tensor(new Int32Array(200)), undefined, { dtype: "int64" }),
      recorded("numpy_v2.npy"),
      recorded("numpy_scalar.npy"),
    ]);
    await check("npy", samples, loadNpy, { mutations: npyChanges, seed: 100_000 });
  });

  it("npz", async () => {
    const part = (bytes: Uint8Array): Uint8Array => {
      const files = Object.entries(unzipSync(bytes));
      return zipSync(Object.fromEntries(files.filter((_, i) => i % 7 === 0)), { level: 6 });
    };
    const samples = [
      zipSync({ "a.npy": recorded("numpy_f4.npy"), "b.npy": recorded("numpy_i8.npy") }, { level: 0 }),
      part(recorded("numpy_stored.npz")),
    ];
    const mutations = [...npyChanges.map((change) => inEntry(/npy$/, change)), inEntry(/npy$/, anyByte), inRecord];
    await check("npz", samples, loadNpz, { mutations, seed: 200_000 });
  });

  it("torch", async () => {
    const samples = ["tensors", "protocol4", "checkpoint", "single"].map((name) => recorded(`torch_${name}.pt`));
    const words = [
      "FloatStorage",
      "LongStorage",
      "BoolStorage",
      "OrderedDict",
      "_rebuild_tensor_v2",
      "storage",
      "cpu",
      "collections",
      "torch._utils",
      "os",
      "Size",
    ];
    const opcodes = [..."(.012NJKMGUTXCB)t]ae}usqrhjcRbQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x93\x94\x95"];
    const swapOpcode = (text: string, random: Random): string => {
      const places = [...text].map((c, i) => (opcodes.includes(c) ? i : -1)).filter((i) => i >= 0);
      const at = pick(random, places.length > 0 ? places : [0]);
      return text.slice(0, at) + pick(random, opcodes) + text.slice(at + 1);
    };
    const inPickle = (change: (text: string, random: Random) => string): Mutation =>
      inEntry(/data\.pkl$/, (bytes, random) => fromLatin1(change(latin1(bytes), random)));
    const mutations = [
      inPickle(swapOpcode),
      inPickle(exchange(words)),
      inEntry(/data\.pkl$/, anyByte),
      inEntry(/data\/\d+$/, (b) => b.slice(1)),
      inRecord,
    ];
    await check("torch", samples, loadTorch, { mutations, seed: 300_000 });
  });
});
