import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import * as layers from "@tensorflow/tfjs-layers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Random } from "../../src/base/random.js";
import { FormatError, OptionError } from "../../src/index.js";
import { type FileTensor, openTfjs, saveTfjs, type TfjsModel } from "../../src/io/index.js";
import { changeNumber, type Mutation, readMutated } from "./mutation.js";

const folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
beforeAll(() => void tf.setBackend("cpu"));
afterAll(() => rmSync(folder, { recursive: true }));

async function everything(input: Parameters<typeof openTfjs>[0]): Promise<Map<string, FileTensor>> {
  const file = await openTfjs(input);
  const all = new Map<string, FileTensor>();
  for (const name of file.tensors.keys()) all.set(name, await file.read(name));
  file.close();
  return all;
}

function model(): layers.LayersModel {
  const inner = layers.sequential({
    name: "inner",
    layers: [layers.layers.dense({ units: 3, inputShape: [5], name: "deep" })],
  });
  const net = layers.sequential({
    layers: [
      layers.layers.conv2d({ filters: 4, kernelSize: 3, inputShape: [6, 6, 2], name: "stem" }),
      layers.layers.batchNormalization({ name: "norm" }),
      layers.layers.flatten(),
      layers.layers.dense({ units: 5, useBias: false, name: "head" }),
      inner,
      layers.layers.layerNormalization({ name: "last" }),
    ],
  });
  const random = new Random(11);
  net.setWeights(
    net.getWeights().map((w) =>
      tf.tensor(
        Float32Array.from({ length: w.size }, () => Math.abs(random.normal())),
        w.shape,
      ),
    ),
  );
  return net;
}

/** What TF.js itself hands to whoever saves a model. */
async function artifactsOf(net: layers.LayersModel): Promise<tf.io.ModelArtifacts> {
  let kept: tf.io.ModelArtifacts | undefined;
  const handler = tf.io.withSaveHandler(async (artifacts) => {
    kept = artifacts;
    return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: "JSON" } };
  });
  await net.save(handler);
  return kept!;
}

const inMemory = ({ modelTopology, weightSpecs, weightData }: tf.io.ModelArtifacts): TfjsModel => ({
  modelJson: {
    modelTopology,
    format: "layers-model",
    weightsManifest: [{ paths: ["weights.bin"], weights: weightSpecs }],
  },
  weights: weightData as ArrayBuffer,
});

test("weights of a model that TensorFlow.js saved are those of the model, with layers, classes and variables", async () => {
  const net = model();
  const file = await openTfjs(inMemory(await artifactsOf(net)));
  const all = await everything(inMemory(await artifactsOf(net)));
  // In the order of model.getWeights(): those that learn first.
  const values = net.weights.map((w) => ({ name: w.originalName, tensor: w.read() }));
  expect(all.size).toBe(values.length);
  for (const { name, tensor } of values) {
    const read = all.get(name)!;
    expect(read.shape).toEqual(tensor.shape);
    expect(read.data).toEqual(tensor.dataSync());
  }
  expect(Object.fromEntries(file.variables)).toMatchObject({
    "stem/kernel": { layer: "stem", class: "Conv2D", variable: "kernel" },
    "norm/moving_variance": { layer: "norm", class: "BatchNormalization", variable: "moving_variance" },
    "deep/bias": { layer: "deep", class: "Dense", variable: "bias" },
    "last/gamma": { layer: "last", class: "LayerNormalization", variable: "gamma" },
  });
  expect(file.metadata.get("format")).toBe("layers-model");
});

test("what is written is loaded by tf.loadLayersModel and gives the same outputs", async () => {
  const net = model();
  const artifacts = await artifactsOf(net);
  const { modelTopology } = artifacts;
  const all = await everything(inMemory(artifacts));
  const written = saveTfjs(all, undefined, { topology: modelTopology });
  const { weightsManifest } = written.modelJson as tf.io.ModelJSON;
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const weightData = new Uint8Array(written.weights as Uint8Array).buffer;
  const loaded = await layers.loadLayersModel(
    tf.io.fromMemory({ modelTopology: modelTopology as object, weightSpecs, weightData }),
  );
  const x = tf.randomNormal([2, 6, 6, 2], 0, 1, "float32", 5);
  expect((loaded.predict(x) as tf.Tensor).dataSync()).toEqual((net.predict(x) as tf.Tensor).dataSync());
});

const many = new Map<string, FileTensor>();
const random = new Random(5);
for (const [name, shape] of [
  ["big/kernel", [700, 900]],
  ["big/bias", [900]],
  ["more/kernel", [1500, 700]],
  ["none", [0, 4]],
  ["one", []],
] as const) {
  const length = shape.reduce((a: number, b) => a * b, 1);
  many.set(name, { shape, type: "float32", data: Float32Array.from({ length }, () => random.normal()) });
}
many.set("steps", { shape: [3], type: "int32", data: Int32Array.of(1, -2, 2 ** 31 - 1) });
many.set("mask", { shape: [2, 2], type: "bool", data: Int32Array.of(1, 0, 0, 1) });

/** Byte by byte: a comparison of a million numbers one by one takes seconds. */
function expectMany(all: ReadonlyMap<string, FileTensor>): void {
  expect([...all.keys()]).toEqual([...many.keys()]);
  for (const [name, { shape, type, data }] of many) {
    const read = all.get(name)!;
    expect({ name, shape: read.shape, type: read.type }).toEqual({ name, shape, type });
    expect(Buffer.compare(new Uint8Array(read.data.buffer), new Uint8Array(data.buffer))).toBe(0);
  }
}

test("files come in shards of 4 MiB and are read from a path and from a server", async () => {
  const path = join(folder, "model.json");
  const bytes = saveTfjs(many, path);
  const shards = readdirSync(folder).filter((name) => name.endsWith(".bin"));
  expect(shards.sort()).toEqual(["group1-shard1of2.bin", "group1-shard2of2.bin"]);
  expect(readFileSync(join(folder, shards[0]!)).length).toBe(4 * 2 ** 20);
  expect(bytes).toBe([...shards, "model.json"].reduce((sum, name) => sum + readFileSync(join(folder, name)).length, 0));
  expectMany(await everything(path));
  const served: string[] = [];
  const server = createServer((request, response) => {
    served.push(request.url!);
    response.end(readFileSync(join(folder, new URL(request.url!, "http://x").pathname.slice(3))));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const { port } = server.address() as AddressInfo;
    expectMany(await everything(new URL(`http://127.0.0.1:${port}/a/model.json?x=1`)));
    expect(new Set(served.slice(1))).toEqual(new Set(shards.map((name) => `/a/${name}`)));
  } finally {
    server.close();
  }
});

test("types that TensorFlow.js does not have become float32 and int32, and halves are kept as such", async () => {
  const numbers = { shape: [3], data: [1, 2.0009765625, -3] };
  const given = { a: { ...numbers, type: "float64" as const, data: Float64Array.from(numbers.data) }, b: numbers };
  const written = saveTfjs({ ...given, c: { shape: [2], data: Int32Array.of(5, 6), type: "int64" as const } });
  expect([...(await openTfjs(written)).tensors.values()].map((t) => t.type)).toEqual(["float32", "float32", "int32"]);
  const half = saveTfjs(given, undefined, { dtype: "float16" });
  expect(half.weights.byteLength).toBe(12);
  expect((await everything(half)).get("a")!.data).toEqual(Float32Array.of(1, 2, -3));
  const specs = (half.modelJson as tf.io.ModelJSON).weightsManifest[0]!.weights;
  const decoded = tf.io.decodeWeights(new Uint8Array(half.weights as Uint8Array).buffer, specs);
  expect(decoded.a!.dataSync()).toEqual(Float32Array.of(1, 2, -3));
});

test("quantized weights are those that TensorFlow.js makes of them", async () => {
  const specs = [
    { name: "a", shape: [4], dtype: "float32", quantization: { dtype: "uint8", scale: 0.1, min: -7.3 } },
    { name: "b", shape: [2], dtype: "float32", quantization: { dtype: "uint16", scale: 1e-3, min: 5 } },
    { name: "c", shape: [2], dtype: "int32", quantization: { dtype: "uint8", scale: 1.5, min: -20 } },
    { name: "d", shape: [3], dtype: "float32", quantization: { dtype: "float16" } },
    { name: "words", shape: [2], dtype: "string" },
    { name: "complex", shape: [1], dtype: "complex64" },
    { name: "e", shape: [2], dtype: "bool" },
  ] as tf.io.WeightsManifestEntry[];
  const words = [3, 0, 0, 0, 97, 98, 99, 0, 0, 0, 0];
  const head = [0, 3, 200, 255, 1, 2, 255, 255, 7, 9, 0, 0x3c, 1, 0, 0, 0xfc];
  const weights = Uint8Array.from([...head, ...words, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0]);
  const file = await openTfjs({ modelJson: { weightsManifest: [{ paths: ["x"], weights: specs }] }, weights });
  expect([...file.skipped.keys()]).toEqual(["words", "complex"]);
  const expected = tf.io.decodeWeights(weights.buffer, specs);
  for (const name of file.tensors.keys()) {
    const { data, shape } = await file.read(name);
    expect({ name, shape }).toEqual({ name, shape: expected[name]!.shape });
    expect(Array.from(data)).toEqual(Array.from(expected[name]!.dataSync()));
  }
});

test.each(["../secret.bin", "/etc/passwd", "a/../../secret.bin", "link.bin", "file:///etc/passwd", ""])(
  "a model.json that names %s is refused",
  async (path) => {
    const inside = join(folder, "model");
    mkdirSync(inside, { recursive: true });
    writeFileSync(join(folder, "secret.bin"), new Uint8Array(4));
    rmSync(join(inside, "link.bin"), { force: true });
    symlinkSync(join(folder, "secret.bin"), join(inside, "link.bin"));
    const json = { weightsManifest: [{ paths: [path], weights: [{ name: "a", shape: [1], dtype: "float32" }] }] };
    writeFileSync(join(inside, "model.json"), JSON.stringify(json));
    await expect(openTfjs(join(inside, "model.json"))).rejects.toThrow(FormatError);
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url!);
      response.end(request.url === "/m/model.json" ? JSON.stringify(json) : new Uint8Array(4));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const opened = openTfjs(new URL(`http://127.0.0.1:${port}/m/model.json`));
      // On a server a link is a file like any other.
      if (path === "link.bin") (await opened).close();
      else await expect(opened).rejects.toThrow(FormatError);
      expect(asked.filter((url) => !url.startsWith("/m/"))).toEqual([]);
    } finally {
      server.close();
    }
  },
);

const weight = { name: "a", shape: [2], dtype: "float32" };
const manifest = (...weights: object[]): object => ({ weightsManifest: [{ paths: ["x"], weights }] });

test.each([
  ["no manifest", {}, /has a list weightsManifest/],
  ["a group without paths", { weightsManifest: [{ weights: [] }] }, /A group has a list of paths/],
  ["a name twice", manifest(weight, weight), /Each name is there once; got "a" \(.*weights\[1\]/],
  ["no name", manifest({ shape: [2], dtype: "float32" }), /A weight has a name/],
  ["a shape beyond the shards", manifest({ ...weight, shape: [3] }), /2 elements have room for/],
  ["a shape that overflows", manifest({ ...weight, shape: [2 ** 30, 2 ** 30] }), /A shape is a list/],
  ["less than the shards hold", manifest({ ...weight, shape: [1] }), /got 4 bytes more/],
  ["an unknown type", manifest({ ...weight, dtype: "float8" }), /dtype is one of/],
  ["a type that is a method's name", manifest({ ...weight, dtype: "constructor" }), /dtype is one of/],
  [
    "quantized halves of int32",
    manifest({ ...weight, dtype: "int32", quantization: { dtype: "float16" } }),
    /stand for float32/,
  ],
  ["no scale", manifest({ ...weight, quantization: { dtype: "uint8" } }), /numbers scale and min/],
  ["texts beyond the shards", manifest({ ...weight, shape: [1], dtype: "string" }), /Texts lie within/],
])("%s is refused with its place", async (_, modelJson, words) => {
  const weights = new Uint8Array(8).fill(9);
  await expect(openTfjs({ modelJson, weights })).rejects.toThrow(words);
  await expect(openTfjs({ modelJson: JSON.stringify(modelJson), weights })).rejects.toThrow(FormatError);
});

test("arguments are checked", async () => {
  await expect(openTfjs({} as TfjsModel)).rejects.toThrow(OptionError);
  expect(() => saveTfjs({}, undefined, { topology: "x" })).toThrow(OptionError);
  expect(() => saveTfjs({}, undefined, { shards: 2 } as object)).toThrow(OptionError);
  expect((await everything(saveTfjs({}))).size).toBe(0);
});

test("10,000 changed models are read or refused, in bounded time and memory", async () => {
  // One file for the test: the length of the text, the text, the shards.
  const packed = ({ modelJson, weights }: Required<TfjsModel>): Uint8Array => {
    const text = new TextEncoder().encode(JSON.stringify(modelJson));
    const whole = new Uint8Array(2 + text.length + weights.byteLength);
    new DataView(whole.buffer).setUint16(0, text.length, true);
    whole.set(text, 2);
    whole.set(new Uint8Array(weights as Uint8Array), 2 + text.length);
    return whole;
  };
  const unpacked = (bytes: Uint8Array): Required<TfjsModel> => {
    const length = bytes.length < 2 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true);
    return { modelJson: new TextDecoder().decode(bytes.subarray(2, 2 + length)), weights: bytes.slice(2 + length) };
  };
  const changeText =
    (change: (text: string, random: Random) => string): Mutation =>
    (bytes, random) => {
      const { modelJson, weights } = unpacked(bytes);
      const text = change(modelJson as string, random);
      try {
        return packed({ modelJson: JSON.parse(text), weights });
      } catch {
        return bytes;
      }
    };
  const swap = (text: string, random: Random): string => {
    const words = [
      "float32",
      "int32",
      "bool",
      "string",
      "complex64",
      "uint8",
      "uint16",
      "float16",
      "weights",
      "paths",
      "shape",
    ];
    const [from, to] = [words, words].map((list) => list[Math.floor(random.uniform() * list.length)]!) as [
      string,
      string,
    ];
    return text.replace(`"${from}"`, () => (random.uniform() < 0.2 ? "null" : `"${to}"`));
  };
  const net = inMemory(await artifactsOf(model())) as Required<TfjsModel>;
  const quantization = { dtype: "uint8", scale: 0.5, min: -3 };
  const mixed = {
    modelJson: manifest(
      { ...weight, quantization },
      { name: "w", shape: [2], dtype: "string" },
      { ...weight, name: "b", dtype: "bool" },
    ),
    weights: Uint8Array.from([1, 2, 1, 0, 0, 0, 65, 0, 0, 0, 0, 1, 0]),
  };
  const outcomes = await readMutated([packed(net), packed(mixed)], (bytes) => everything(unpacked(bytes)), {
    mutations: [changeText(changeNumber), changeText(swap)],
  });
  console.info("TensorFlow.js:", JSON.stringify(outcomes));
  expect(outcomes.accepted + outcomes.refused).toBe(10_000);
  expect(outcomes.accepted).toBeGreaterThan(500);
});
