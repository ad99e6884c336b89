import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import { FormatError, OptionError } from "../../src/index.js";
import { flaxPieces } from "../../src/io/flax/save_flax.js";
import { type FileTensor, openFlax, saveFlax } from "../../src/io/index.js";
import { joined } from "../../src/io/joined.js";
import { tensorsToWrite } from "../../src/io/tensors_to_write.js";
import { type Mutation, pick, readMutated } from "./mutation.js";

const pathOf = (name: string): string => fileURLToPath(new URL(`files/flax_${name}`, import.meta.url));
const recorded: Record<string, { shape: number[]; type: string; data: number[] }> = JSON.parse(
  readFileSync(pathOf("expected.json"), "utf8"),
);
const state = new Uint8Array(readFileSync(pathOf("state.msgpack")));

async function everything(input: Parameters<typeof openFlax>[0]): Promise<Map<string, FileTensor>> {
  const file = await openFlax(input);
  const all = new Map<string, FileTensor>();
  for (const name of file.tensors.keys()) all.set(name, await file.read(name));
  file.close();
  return all;
}

test.each([
  ["a path", pathOf("state.msgpack")],
  ["bytes", state],
  ["a Blob", new Blob([state])],
])("a state of Flax from %s gives the recorded arrays", async (_, input) => {
  const all = await everything(input);
  expect([...all.keys()]).toEqual(Object.keys(recorded));
  for (const [name, { shape, type, data }] of Object.entries(recorded)) {
    const read = all.get(name)!;
    expect({ name, shape: read.shape, type: read.type }).toEqual({ name, shape, type });
    expect(Array.from(read.data)).toEqual(data);
  }
});

test("single numbers and texts are metadata", async () => {
  const file = await openFlax(state);
  expect(Object.fromEntries(file.metadata)).toEqual({
    step: "1200",
    time: "0.25",
    about: "trained",
    phase: "a complex number",
  });
  await expect(file.read("params/Conv_0/kernels")).rejects.toThrow(/Did you mean "params\/Conv_0\/kernel"/);
});

test("what is written is read back bit for bit, whole and in chunks, from bytes and from a file", async () => {
  const all = await everything(state);
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
  const path = join(folder, "state.msgpack");
  try {
    const bytes = saveFlax(all);
    expect(saveFlax(all, path)).toBe(bytes.length);
    const chunked = joined(flaxPieces(tensorsToWrite("saveFlax", all, {}), 64));
    expect(chunked.length).toBeGreaterThan(bytes.length);
    for (const input of [bytes, path, chunked]) expect(await everything(input)).toEqual(all);
    expect((await everything(saveFlax(all, undefined, { dtype: "float64" }))).get("params/scalar")?.type).toBe(
      "float64",
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a name cannot be both an array and a map", () => {
  const one = { shape: [1], data: [1] };
  expect(() => saveFlax({ "a/b": one, a: one })).toThrow(OptionError);
  expect(() => saveFlax({ a: one, "a/b": one })).toThrow(OptionError);
  expect(() => saveFlax("model.msgpack" as never)).toThrow(/Write saveFlax\(model.stateDict\(\), "model.msgpack"\)/);
});

const text = (value: string): number[] => [0xa0 | value.length, ...Buffer.from(value)];

test.each([
  ["an empty file", [], /hold what it announces|lie within/],
  ["a number", [5], /is a map; got a number/],
  ["a map of more entries than bytes", [0xdf, 0xff, 0xff, 0xff, 0xff], /must hold the map/],
  ["bytes after the map", [0x80, 0], /Nothing follows/],
  ["a key that is a number", [0x81, 1, 1], /keys of a checkpoint are texts/],
  ["a key twice", [0x82, ...text("a"), 1, ...text("a"), 2], /"a" twice/],
  ["a list", [0x81, ...text("a"), 0x91, 1], /got an array/],
  ["another extension", [0x81, ...text("a"), 0xd4, 9, 0], /an extension of type 9/],
  ["a code that msgpack leaves free", [0x81, ...text("a"), 0xc1], /code of msgpack; got 0xc1/],
  ["a long text", [0x81, 0xdb, 0, 1, 0, 1], /at most 65536 bytes/],
  ["maps in maps", [...Array.from({ length: 70 }, () => [0x81, ...text("a")]).flat(), 1], /at most 64 deep/],
])("%s is refused with its place", async (_, bytes, words) => {
  await expect(openFlax(Uint8Array.from(bytes))).rejects.toThrow(words);
  await expect(openFlax(Uint8Array.from(bytes))).rejects.toThrow(FormatError);
});

/** Codes, and counts and lengths behind them: what makes the structure of the file. */
const structural: Mutation[] = [
  function code(bytes, random) {
    bytes[Math.floor(random.uniform() * Math.min(bytes.length, 2500))] = pick(
      random,
      [
        0x80, 0x81, 0x8f, 0x90, 0x93, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6, 0xc7, 0xc9, 0xcf, 0xd4, 0xd8, 0xdb, 0xdd,
        0xdf,
      ],
    );
    return bytes;
  },
  function aroundArray(bytes, random) {
    const places = [...bytes.keys()].filter((i) => bytes[i] === 0x93 && (bytes[i + 1]! & 0xf0) === 0x90);
    const at = pick(random, places) - 4 + Math.floor(random.uniform() * 20);
    if (at >= 0 && at < bytes.length)
      bytes[at] = pick(random, [0, 1, 2, 4, 0x7f, 0x80, 0x92, 0x94, 0xcc, 0xce, 0xcf, 0xff]);
    return bytes;
  },
];

test("10,000 changed files are read or refused, in bounded time and memory", async () => {
  const small = saveFlax({ "params/a": { shape: [2, 3], data: new Float32Array(6) }, b: { shape: [], data: [1] } });
  const samples = [state, small, joined(flaxPieces(tensorsToWrite("saveFlax", await everything(state), {}), 64))];
  const outcomes = await readMutated(samples, everything, { mutations: structural });
  console.info("Flax:", JSON.stringify(outcomes));
  expect(outcomes.accepted + outcomes.refused).toBe(10_000);
  expect(outcomes.accepted).toBeGreaterThan(500);
});

test("random trees come back as they were", async () => {
  const random = new Random(3);
  for (let n = 0; n < 30; n++) {
    const tensors = new Map<string, FileTensor>();
    for (let k = 0; k < 20; k++) {
      const shape = Array.from({ length: Math.floor(random.uniform() * 4) }, () => Math.floor(random.uniform() * 9));
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal());
      tensors.set(`${"xyz"[k % 3]!.repeat(k * k)}/${k}`, { shape, data, type: "float32" });
    }
    const back = await everything(saveFlax(tensors));
    expect(new Map([...back].sort())).toEqual(new Map([...tensors].sort()));
  }
});
