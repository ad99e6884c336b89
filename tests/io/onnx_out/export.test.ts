import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.js";
import { F, memoryStats, nn, noGrad, randn, scope, type Tensor, tensor } from "../../../src/index.js";
import { type ExportOnnxOptions, exportOnnx, type OnnxReport } from "../../../src/io/index.js";
import { type Graph, ModelSchema } from "../../../src/io/onnx/proto/onnx_pb.js";
import { VERSION } from "../../../src/io/onnx/write/model_proto.js";
import { lambda } from "./layers.js";
import { difference, runOnnx } from "./ort.js";
import { prepared } from "./prepared.js";

const random = new Random(11);
const draw = (...shape: number[]) => randn(shape, { random });

const fileOf = (bytes: Uint8Array) => fromBinary(ModelSchema, bytes);
const graphOf = (bytes: Uint8Array): Graph => fileOf(bytes).graph!;
const operatorsOf = (bytes: Uint8Array) => graphOf(bytes).node.map(({ opType }) => opType);

const folders: string[] = [];
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "onnx-out-"));
  folders.push(made);
  return made;
}
afterEach(() => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true });
});

class Branched extends nn.Module {
  readonly features = new nn.Sequential(new nn.Conv2d(2, 4, 3, { padding: 1 }), new nn.BatchNorm2d(4), new nn.ReLU());
  readonly head = new nn.Linear(4, 3);

  override forward(x: Tensor): Tensor {
    return this.head.forward(this.features.forward(x).mean([2, 3]));
  }
}

test("what a file says: names, versions, shapes", () => {
  const bytes = exportOnnx(new Branched(), draw(2, 2, 5, 5), { opset: 21, outputNames: ["logits"] });
  const file = fileOf(bytes);
  expect(file.irVersion).toBe(10n);
  expect(file.opsetImport.map(({ domain, version }) => [domain, version])).toEqual([["", 21n]]);
  expect([file.producerName, file.producerVersion]).toEqual(["evenkeel", VERSION]);
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));
  expect(VERSION).toBe(version);
  const { node, initializer, input, output } = file.graph!;
  expect(node.map(({ name }) => name)).toEqual([
    ...["features.0/Conv", "features.1/BatchNormalization", "features.2/Relu", "ReduceSum", "Reshape", "Div"],
    "head/Gemm",
  ]);
  const names = initializer.map(({ name }) => name).filter((name) => !name.startsWith("constant"));
  const state = Object.keys(new Branched().stateDict()).filter((name) => !name.endsWith("tracked"));
  expect(names.sort()).toEqual(state.sort());
  const lengths = (info: (typeof input)[0]) => info.type!.value.value!.shape!.dim.map(({ value }) => value.value);
  expect([...input, ...output].map((info) => [info.name, lengths(info)])).toEqual([
    ["input", [2n, 2n, 5n, 5n]],
    ["logits", [2n, 3n]],
  ]);
});

test("the model stays as it was: modes, state, gradients, memory, mode of recording", () => {
  const model = new Branched();
  model.features.children()[1]!.eval();
  const modes = () => model.modules().map(({ training }) => training);
  const before = { modes: modes(), state: Object.values(model.stateDict()).map((t) => [...t.dataSync()]) };
  const versions = () => [...model.parameters(), ...model.buffers()].map((t) => t.storage.version);
  const noted = versions();
  const x = draw(2, 2, 5, 5);
  exportOnnx(model, x);
  const { liveBytes } = memoryStats();
  for (const dynamicBatch of [true, false]) exportOnnx(model, x, { dynamicBatch, fold: true });
  expect(memoryStats().liveBytes).toBe(liveBytes);
  expect(modes()).toEqual(before.modes);
  expect(Object.values(model.stateDict()).map((t) => [...t.dataSync()])).toEqual(before.state);
  expect(versions()).toEqual(noted);
  expect(model.forward(x).vertex.node).not.toBeNull();
});

test("a layer that writes over its input leaves the example alone", async () => {
  const model = prepared({ make: () => new nn.InPlaceActivatedBatchNorm(4), inputs: () => [draw(3, 4, 2, 2)] }, random);
  const x = draw(3, 4, 2, 2);
  const numbers = [...x.dataSync()];
  const bytes = exportOnnx(model, x);
  expect([...x.dataSync()]).toEqual(numbers);
  const ran = await runOnnx(bytes, { input: x });
  const y = noGrad(() => model.eval().forward(x)).dataSync();
  expect(difference(ran.get("output")!.data, y)).toBeLessThan(1e-6);
});

test("a forward of several tensors in and out, some of them in objects", async () => {
  const model = lambda((x, o) => {
    const { scale, times } = o as unknown as { scale: Tensor; times: number };
    return { sum: x!.add(scale), parts: [x!.mul(scale), x!.mul(times)], again: x };
  });
  const args = [draw(2, 3), { scale: draw(3), times: 2, other: null }];
  const { scale } = args[1] as { scale: Tensor };
  const ran = await runOnnx(exportOnnx(model, args), { input: args[0] as Tensor, scale });
  expect([...ran.keys()].sort()).toEqual(["output_again", "output_parts_0", "output_parts_1", "output_sum"]);
  expect(difference(ran.get("output_parts_1")!.data, (args[0] as Tensor).mul(2).dataSync())).toBe(0);
  expect(difference(ran.get("output_again")!.data, (args[0] as Tensor).dataSync())).toBe(0);
});

describe("norms by opset", () => {
  const cases: [string, () => nn.Module, Record<number, string>][] = [
    ["LayerNorm", () => new nn.LayerNorm(6), { 16: "ReduceMean", 17: "LayerNormalization" }],
    ["GroupNorm", () => new nn.GroupNorm(2, 4), { 20: "InstanceNormalization", 21: "GroupNormalization" }],
    ["RMSNorm", () => new nn.RMSNorm(6), { 22: "ReduceMean", 23: "RMSNormalization" }],
    ["InstanceNorm2d", () => new nn.InstanceNorm2d(4), { 13: "InstanceNormalization" }],
    ["BatchNorm2d", () => new nn.BatchNorm2d(4), { 13: "BatchNormalization" }],
    ["LocalResponseNorm", () => new nn.LocalResponseNorm(3), { 13: "LRN" }],
    ["MeanVarianceNorm", () => new nn.MeanVarianceNorm(), { 13: "MeanVarianceNormalization" }],
    ["UnitNorm", () => new nn.UnitNorm(-1, { eps: 0 }), { 13: "LpNormalization" }],
    ["GELU", () => new nn.GELU(), { 19: "Erf", 20: "Gelu" }],
  ];
  for (const [name, make, forms] of cases) {
    test.each(Object.entries(forms))(`${name} at opset %s has %s`, (opset, operator) => {
      expect(operatorsOf(exportOnnx(make(), draw(2, 4, 3, 6), { opset: Number(opset) }))).toContain(operator);
    });
  }
});

describe("fold", () => {
  const norm = (kind: "1d" | "2d", features: number) =>
    kind === "2d" ? new nn.BatchNorm2d(features) : new nn.BatchNorm1d(features);
  const models: [string, () => nn.Module, number[], string[]][] = [
    [
      "Conv",
      () => new nn.Sequential(new nn.Conv2d(4, 6, 3, { groups: 2, bias: false }), norm("2d", 6)),
      [2, 4, 5, 5],
      ["Conv"],
    ],
    ["Gemm", () => new nn.Sequential(new nn.Linear(4, 6), norm("1d", 6)), [3, 4], ["Gemm"]],
    [
      "ConvTranspose",
      () => new nn.Sequential(new nn.ConvTranspose2d(4, 6, [2, 3], { groups: 2, stride: 2 }), norm("2d", 6)),
      [2, 4, 3, 3],
      ["ConvTranspose"],
    ],
    [
      "with an activation",
      () => new nn.Sequential(new nn.Conv2d(4, 6, 1), new nn.BatchNorm2d(6, { activation: "silu" })),
      [2, 4, 3, 3],
      ["Conv", "Sigmoid", "Mul"],
    ],
    ["frozen", () => new nn.Sequential(new nn.Conv2d(4, 6, 1), new nn.FrozenBatchNorm(6)), [2, 4, 3, 3], ["Conv"]],
  ];

  test.each(models)("%s", async (_, make, shape, operators) => {
    const model = prepared({ make, inputs: () => [draw(...shape)] }, random);
    const x = draw(...shape);
    let told: OnnxReport | undefined;
    const report = (r: OnnxReport) => {
      told = r;
    };
    const [plain, folded] = [exportOnnx(model, x), exportOnnx(model, x, { fold: true, report })];
    expect(operatorsOf(plain)).toContain("BatchNormalization");
    expect(operatorsOf(folded)).toEqual(operators);
    expect(told!.folded).toEqual([{ layer: "0", norm: "1" }]);
    expect(fileOf(folded).metadataProps.map(({ key, value }) => [key, value])).toEqual([["folded", "1 into 0"]]);
    model.eval();
    const y = noGrad(() => model.forward(x)).dataSync();
    for (const bytes of [plain, folded]) {
      expect(difference((await runOnnx(bytes, { input: x })).get("output")!.data, y)).toBeLessThan(2e-6);
    }
  });

  test("not where the layer's result goes elsewhere too, nor where the norm comes first or by its batch", () => {
    const conv = new nn.Conv2d(4, 4, 1);
    const bn = new nn.BatchNorm2d(4);
    const twice = lambda((x) => {
      const y = conv.forward(x!);
      return bn.forward(y).add(y);
    });
    const first = new nn.Sequential(new nn.BatchNorm2d(4), new nn.Conv2d(4, 4, 1));
    const byBatch = new nn.Sequential(new nn.Conv2d(4, 4, 1), new nn.BatchNorm2d(4, { trackRunningStats: false }));
    for (const model of [twice, first, byBatch]) {
      exportOnnx(model, draw(2, 4, 3, 3), { fold: true, report: ({ folded }) => expect(folded).toEqual([]) });
    }
  });
});

describe("what cannot be exported is refused before anything is written", () => {
  const inner = (body: (x: Tensor) => Tensor) =>
    new nn.Sequential(
      new nn.Linear(4, 4),
      lambda((x) => body(x!)),
    );
  const refused: [string, nn.Module, RegExp][] = [
    [
      "an op without a form",
      inner((x) => F.dropout(x, { p: 0.5, training: true })),
      /dropout in 1: it draws random numbers/,
    ],
    ["a number that was read", inner((x) => x.mul(x.dataSync()[0]!)), /Mul in 1 that follows the input's numbers/],
    ["a constant from numbers", inner((x) => x.add(tensor(x.sum(1, true).dataSync(), { shape: [3, 1] }))), /Add in 1 /],
    ["a result from numbers", inner((x) => tensor(x.dataSync(), { shape: x.shape })), /a result that no op has made/],
    [
      "a choice by numbers",
      lambda((x) => (x!.dataSync()[0]! > x!.dataSync()[11]! ? x!.neg() : x!.exp())),
      /in place of/,
    ],
    ["an assignment in place", inner((x) => x.add(1).assign(new Float32Array(12)).mul(2)), /written to/],
  ];

  test.each(refused)("%s", (_, model, message) => {
    const path = join(folder(), "model.onnx");
    const x = tensor(
      Float32Array.from({ length: 12 }, (_v, i) => Math.sin(i * i) + i / 3),
      { shape: [3, 4] },
    );
    expect(() => exportOnnx(model, x, { path })).toThrow(message);
    expect(existsSync(path)).toBe(false);
    expect(model.training).toBe(true);
  });

  test("a model or an example on a GPU", () => {
    const model = new nn.Linear(4, 4);
    Object.defineProperty(model.weight, "device", { value: "webgpu" });
    expect(() => exportOnnx(model, draw(2, 4))).toThrow(/await model\.toCPU\(\)/);
  });

  const wrong: [string, unknown, unknown, RegExp][] = [
    ["an opset too old", draw(2, 4), { opset: 12 }, /from 13 to 24; got 12/],
    ["an unknown option", draw(2, 4), { folded: true }, /Did you mean "fold"/],
    ["names too many", draw(2, 4), { inputNames: ["a", "b"] }, /inputNames must be 1 different name/],
    ["one name for both", draw(2, 4), { inputNames: ["a"], outputNames: ["a"] }, /different names; got "a" twice/],
    ["no tensor", [2, 4], {}, /an example of what the model's forward takes/],
    ["external data without a path", draw(2, 4), { externalData: "w.bin" }, /beside the one at path/],
    ["external data elsewhere", draw(2, 4), { path: "m.onnx", externalData: "../w.bin" }, /beside the one at path/],
    ["a batch axis of no input", draw(2, 4), { dynamicBatch: { inputs: 0 } }, /Did you mean "input"/],
    ["a batch axis that is none", draw(2, 4), { dynamicBatch: { input: 2 } }, /an axis of input, from 0 to 1; got 2/],
  ];
  test.each(wrong)("%s", (_, example, options, message) => {
    expect(() => exportOnnx(new nn.Linear(4, 4), example, options as ExportOnnxOptions)).toThrow(message);
  });
});

test("class numbers as int32 or int64, under the names of options", async () => {
  const embedding = new nn.Embedding(9, 4);
  const model = lambda((x, y) => embedding.forward(x!).sum(1).mul(y!), embedding);
  const args = [tensor([1, 8, 0, 4], { shape: [2, 2], dtype: "int32" }), draw(2, 4)];
  const y = noGrad(() => model.forward(...args)).dataSync();
  const feeds = { tokens: args[0]!, scale: args[1]! };
  for (const integers of ["int32", "int64"] as const) {
    const bytes = exportOnnx(model, args, { integers, inputNames: ["tokens", "scale"] });
    const ran = await runOnnx(bytes, feeds, integers === "int64" ? { tokens: "int64" } : {});
    expect(difference(ran.get("output")!.data, y)).toBeLessThan(1e-6);
  }
});

test("a float64 model is float64 in the file", async () => {
  const model = new nn.Sequential(new nn.Linear(4, 5), new nn.Tanh(), new nn.Linear(5, 2)).to("float64") as nn.Module;
  const x = scope(() => draw(3, 4).cast("float64"));
  const ran = await runOnnx(exportOnnx(model, x), { input: x });
  expect(difference(ran.get("output")!.data, noGrad(() => model.forward(x)).dataSync())).toBeLessThan(1e-14);
});

test("files are written whole, weights beside them where asked", async () => {
  const path = join(folder(), "model.onnx");
  const model = new nn.Sequential(new nn.Linear(40, 30), new nn.ReLU(), new nn.Linear(30, 2));
  const x = draw(3, 40);
  const y = noGrad(() => model.forward(x)).dataSync();
  const whole = exportOnnx(model, x, { path });
  expect(new Uint8Array(readFileSync(path))).toEqual(whole);
  const graph = exportOnnx(model, x, { path, externalData: "weights.bin" });
  expect(readdirSync(join(path, ".."))).toEqual(["model.onnx", "weights.bin"]);
  expect(graph.length).toBeLessThan(2000);
  const weights = readFileSync(join(path, "../weights.bin"));
  expect(weights.length).toBe(40 * 30 * 4);
  const ran = await runOnnx(graph, { input: x }, {}, [{ path: "weights.bin", data: weights }]);
  expect(difference(ran.get("output")!.data, y)).toBeLessThan(1e-6);
});
