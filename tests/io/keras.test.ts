import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { OptionError, StateError } from "../../src/index.js";
import { type FileTensor, openKeras, saveKerasWeights } from "../../src/io/index.js";
import { joined } from "../../src/io/joined.js";
import { zipPieces } from "../../src/io/zip/write.js";

interface Recorded {
  readonly shape: readonly number[];
  readonly type: string;
  readonly data: readonly number[];
}

const pathOf = (name: string): string => fileURLToPath(new URL(`files/keras_${name}`, import.meta.url));
const recorded: Record<string, Record<string, Recorded>> = JSON.parse(readFileSync(pathOf("expected.json"), "utf8"));

const inputs = [
  ["a path", (path: string) => path],
  ["bytes", (path: string) => new Uint8Array(readFileSync(path))],
  ["a Blob", (path: string) => new Blob([readFileSync(path)])],
] as const;

test.each(Object.keys(recorded).flatMap((name) => inputs.map(([kind, input]) => [name, kind, input] as const)))(
  "%s from %s gives the recorded tensors",
  async (name, _, input) => {
    const file = await openKeras(input(pathOf(name)));
    const tensors = recorded[name]!;
    for (const [tensor, { shape, type, data }] of Object.entries(tensors)) {
      const read = await file.read(tensor);
      expect({ tensor, shape: read.shape, type: read.type }).toEqual({ tensor, shape, type });
      expect(file.tensors.get(tensor)).toEqual({ shape, type });
      expect(Array.from(read.data)).toEqual(data);
    }
    const others = [...file.tensors.keys()].filter((tensor) => !(tensor in tensors));
    expect(others).toEqual(name === "odd.weights.h5" ? ["layers/external", "layers/lzf", "layers/virtual"] : []);
    file.close();
  },
);

test("variables of Keras 3 come in the order of their numbers, with what their group tells", async () => {
  const file = await openKeras(pathOf("v3.weights.h5"));
  expect(file.layout).toBe("numbered");
  expect(file.config).toBeNull();
  const odd = [...file.tensors.keys()].filter((name) => name.startsWith("layers/odd/"));
  expect(odd).toEqual(Array.from({ length: 12 }, (_, i) => `layers/odd/vars/${i}`));
  expect(file.variables.get("layers/conv2d_1/vars/0")).toEqual({
    layer: "second",
    class: "Conv2D",
    variable: "kernel",
  });
  const bn = ["gamma", "beta", "moving_mean", "moving_variance"];
  bn.forEach((variable, i) => {
    const found = file.variables.get(`layers/batch_normalization/vars/${i}`);
    expect(found).toEqual({ layer: "bn", class: "BatchNormalization", variable });
  });
  expect(file.variables.get("layers/batch_normalization_1/vars/0")?.variable).toBe("moving_mean");
  const cell = { layer: "lstm/cell", class: "LSTMCell", variable: "recurrent_kernel" };
  expect(file.variables.get("layers/lstm/cell/vars/1")).toEqual(cell);
  expect(file.variables.get("layers/odd/vars/3")).toEqual({ layer: "odd", class: null, variable: null });
  expect(file.variables.has("optimizer/vars/0")).toBe(false);
  file.close();
});

test("weights of Keras 1 and 2 have their own names, and their layers' where two are the same", async () => {
  const model = await openKeras(pathOf("v2_model.h5"));
  expect(model.layout).toBe("named");
  expect((model.config as { class_name: string }).class_name).toBe("Functional");
  expect([...model.metadata]).toEqual([
    ["keras_version", "2.11.0"],
    ["backend", "tensorflow"],
  ]);
  const mean = model.variables.get("batch_normalization_1/moving_mean:0");
  expect(mean).toEqual({ layer: "batch_normalization_1", class: "BatchNormalization", variable: "moving_mean" });
  expect([...model.tensors.keys()].slice(-3)).toEqual([
    "b_model/dense/kernel:0",
    "b_model/dense/bias:0",
    "optimizer_weights/Adam/iter:0",
  ]);
  const inner = { layer: "a_model/dense", class: "Dense", variable: "bias" };
  expect(model.variables.get("a_model/dense/bias:0")).toEqual(inner);
  expect(model.variables.get("b_model/dense/bias:0")?.layer).toBe("b_model");
  model.close();
  const weights = await openKeras(pathOf("v2_weights.h5"));
  // A list of layers that is cut into three attributes; by name dense_10 would come before dense_2.
  expect([...weights.tensors.keys()].filter((_, i) => i % 2 === 0)).toEqual(
    Array.from({ length: 11 }, (_, i) => `dense_${i + 1}/kernel:0`),
  );
  weights.close();
  const old = await openKeras(pathOf("v1_weights.h5"));
  expect(old.variables.get("batchnormalization_1_running_std")?.variable).toBe("running_std");
  expect(old.variables.get("convolution2d_1_W")?.variable).toBe("W");
  old.close();
});

test("what is no tensor is skipped with its reason, and nothing outside of the file is read", async () => {
  const file = await openKeras(pathOf("odd.weights.h5"));
  expect(Object.fromEntries(file.skipped)).toEqual({
    "layers/rest": "a second link to a group",
    "layers/dense/vars/up": "a second link to a group",
    "layers/soft": "a soft link",
    "layers/hanging": "a soft link",
    "layers/outside": "a link to another file",
    "layers/words": "no numbers but texts or other things",
    "layers/pairs": "no numbers but texts or other things",
    "layers/reference": "no numbers but texts or other things",
    "layers/ragged": "no numbers but texts or other things",
    "layers/complex": "no numbers but texts or other things",
    "layers/nothing": "no numbers",
    "layers/type": "a named type or a link of an unknown kind",
  });
  await expect(file.read("layers/lzf")).rejects.toThrow(/the filter lzf/);
  await expect(file.read("layers/virtual")).rejects.toThrow(/a virtual dataset/);
  await expect(file.read("layers/external")).rejects.toThrow(/readable by the HDF5 library/);
  // The worker that met the missing file is gone; the file opens again in another.
  expect((await file.read("layers/dense/vars/1")).shape).toEqual([3]);
  file.close();
});

test("a caller says how large a tensor may be", async () => {
  await expect(openKeras(pathOf("v1_weights.h5"), { largestTensor: 60 })).rejects.toThrow(/15 elements have room for/);
  await expect(openKeras(pathOf("v1_weights.h5"), { largest: 60 } as object)).rejects.toThrow(OptionError);
});

test("a .keras file's configuration tells layers, classes and variables, in the order of the model", async () => {
  const file = await openKeras(pathOf("v3.keras"));
  expect(file.metadata.get("keras_version")).toBe("3.3.3");
  expect((file.config as { class_name: string }).class_name).toBe("Sequential");
  const told = [...file.variables].map(([name, { layer, class: kind, variable }]) =>
    [name, layer, kind, variable].join(" "),
  );
  const attention = ["key", "output", "query", "value"].flatMap((part) =>
    ["kernel", "bias"].map((variable, i) => {
      const path = `layers/multi_head_attention/${part}_dense/vars/${i}`;
      return `${path} attention/${part}_dense EinsumDense ${variable}`;
    }),
  );
  const cell = (direction: string, layer: string, kind: string): string[] =>
    ["kernel", "recurrent_kernel", "bias"].map(
      (variable, i) =>
        `layers/bidirectional/${direction}_layer/cell/vars/${i} both/${layer}/cell ${kind}Cell ${variable}`,
    );
  expect(told).toEqual([
    "layers/conv2d/vars/0 stem Conv2D kernel",
    "layers/batch_normalization/vars/0 stem_bn BatchNormalization beta",
    "layers/batch_normalization/vars/1 stem_bn BatchNormalization moving_mean",
    "layers/batch_normalization/vars/2 stem_bn BatchNormalization moving_variance",
    "layers/group_normalization/vars/0 groups GroupNormalization gamma",
    "layers/group_normalization/vars/1 groups GroupNormalization beta",
    "layers/spectral_normalization/vars/0 sn SpectralNormalization vector_u",
    "layers/spectral_normalization/layer/vars/0 sn/wrapped Dense kernel",
    "layers/spectral_normalization/layer/vars/1 sn/wrapped Dense bias",
    "layers/functional/layers/dense/vars/0 encoder/inner Dense kernel",
    "layers/functional/layers/dense/vars/1 encoder/inner Dense bias",
    "layers/functional/layers/dense_1/vars/0 encoder/inner_bias_free Dense kernel",
    "layers/layer_normalization/vars/0 rms LayerNormalization gamma",
    ...cell("forward", "one", "LSTM"),
    ...cell("backward", "other", "GRU"),
    ...attention,
    "layers/dense/vars/0 head Dense kernel",
    "layers/dense/vars/1 head Dense bias",
  ]);
  file.close();
});

test("what is written is read back bit for bit, from bytes and from a file", async () => {
  const tensors = new Map<string, FileTensor>();
  for (const name of ["v3.weights.h5", "v3.keras"]) {
    const file = await openKeras(pathOf(name));
    for (const tensor of file.tensors.keys()) tensors.set(tensor, await file.read(tensor));
    file.close();
  }
  tensors.set("layers/\u{1f9ea} _/vars/0", { shape: [2, 0], type: "float32", data: new Float32Array(0) });
  const folder = mkdtempSync(join(tmpdir(), "evenkeel-"));
  const path = join(folder, "new.weights.h5");
  try {
    const bytes = await saveKerasWeights(tensors);
    expect(await saveKerasWeights(tensors, path)).toBe(bytes.length);
    const larger: Record<string, string> = { float16: "float32", bfloat16: "float32", bool: "uint8" };
    for (const input of [bytes, path]) {
      const file = await openKeras(input);
      expect([...file.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
      for (const [name, { shape, type, data }] of tensors) {
        const read = await file.read(name);
        expect({ name, ...read }).toEqual({ name, shape, type: larger[type] ?? type, data });
      }
      file.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.each(["", "/a", "a//b", "a/../b", "a\0"])("a tensor named %j is not written", async (name) => {
  await expect(saveKerasWeights({ [name]: { shape: [1], data: [1] } })).rejects.toThrow(OptionError);
});

test("a name cannot be both a dataset and a group", async () => {
  const one = { shape: [1], data: [1] };
  await expect(saveKerasWeights({ "a/b": one, a: one })).rejects.toThrow(/beginning of another/);
  await expect(saveKerasWeights({ vars: one })).rejects.toThrow(/beginning of another/);
});

test("a closed file is not read, and can be opened again", async () => {
  const file = await openKeras(pathOf("v1_weights.h5"));
  file.close();
  file.close();
  await expect(file.read("convolution2d_1_W")).rejects.toThrow(StateError);
  (await openKeras(pathOf("v1_weights.h5"))).close();
});

test("a .keras file without a part, or with one that unpacks to a flood, is refused", async () => {
  const entry = (name: string, bytes: Uint8Array) => ({ name, bytes: () => bytes });
  const pack = (...entries: ReturnType<typeof entry>[]): Uint8Array => joined(zipPieces(entries, true));
  const json = new TextEncoder().encode("{}");
  const flood = new Uint8Array(2 ** 26 + 1);
  await expect(openKeras(pack(entry("config.json", json)))).rejects.toThrow(/no metadata.json among 1 entries/);
  await expect(openKeras(pack(entry("config.json", flood)))).rejects.toThrow(/config.json unpacks to at most 67108864/);
  const parts = [entry("config.json", json), entry("metadata.json", json), entry("model.weights.h5", flood)];
  await expect(openKeras(pack(...parts))).rejects.toThrow(/model.weights.h5 unpacks to at most/);
  await expect(openKeras(pack(...parts.slice(0, 2)))).rejects.toThrow(/no model.weights.h5/);
});
